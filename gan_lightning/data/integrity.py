"""Verification of the files of MNIST, and of data sets in its format, when they are read."""

import hashlib
import math
import zlib
from itertools import chain
from pathlib import Path
from typing import Any

from gan_lightning.errors import InputError

BYTES = {8: 1, 9: 1, 11: 2, 12: 4, 13: 4, 14: 8}  # of a value, by the type's code in a file's header


def check_files(dataset: Any, root: Path | str, *, remove: bool) -> None:
    """Verify the archives and the unpacked files of MNIST, or of another data set in its format.

    torchvision loads the unpacked files without checking them. Gzip archives are compared with their published MD5
    sums, and unpacked files with the checksum in their archive's last bytes, as an interrupted run may have unpacked
    half a file; without an archive, their size must be what their header says.

    Args:
        dataset: Class of the data set; nothing is done if it has no ``resources``.
        root: The folder that holds the data sets.
        remove: Whether to remove a damaged file for which there is an intact archive, so that it is unpacked again.

    Raises:
        InputError: If an archive, or an unpacked file that is not removed, is damaged.
    """
    resources = getattr(dataset, "resources", None)
    if not isinstance(resources, list | dict):
        return
    raw = Path(root) / dataset.__name__ / "raw"
    lists = [resources] if isinstance(resources, list) else resources.values()  # QMNIST has one of each split
    for address, md5 in chain.from_iterable(lists):
        archive = raw / address.rpartition("/")[2]
        if archive.suffix == ".gz" and archive.is_file():
            check_archive(archive, md5, remove=remove)
    numbers: dict[str, int] = {}
    for path in sorted(raw.glob("*-idx?-*")):  # images before labels
        if path.suffix or not path.is_file():
            continue
        number = number_of_items(path)
        if number is None:
            raise InputError(f"{path}: the file is damaged; delete it, and the next run unpacks or downloads it again")
        part = path.name.partition("-idx")[0].removesuffix("-images").removesuffix("-labels")
        if (images := numbers.setdefault(part, number)) != number:
            raise InputError(
                f"{path}: the file has {number} labels for {images} images; delete both files, and the next run "
                "unpacks or downloads them again"
            )


def check_archive(archive: Path, md5: str, *, remove: bool) -> None:
    """Raise InputError if a gzip archive or its unpacked file is damaged, or remove the latter."""
    content = archive.read_bytes()
    if (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != md5:
        advice = "delete it, and restore it with git checkout or let the next run download it"
        raise InputError(f"{archive}: the file is damaged (its MD5 sum is {found}, not {md5}); {advice}")
    unpacked = archive.with_suffix("")
    if unpacked.is_file() and zlib.crc32(unpacked.read_bytes()) != int.from_bytes(content[-8:-4], "little"):
        if not remove:
            raise InputError(
                f"{unpacked}: the file is damaged; delete it, and it is unpacked again from {archive.name}"
            )
        unpacked.unlink()


def number_of_items(path: Path) -> int | None:
    """Return the number of images or labels in an unpacked file; None if its size is not what its header says."""
    with path.open("rb") as file:
        zeros, kind, dimensions = file.read(2), *(file.read(2).ljust(2, b"\0"))
        shape = [int.from_bytes(file.read(4), "big") for _ in range(dimensions)]
    size = 4 + 4 * dimensions + math.prod(shape) * BYTES.get(kind, 0)
    return shape[0] if zeros == b"\0\0" and kind in BYTES and shape and path.stat().st_size == size else None

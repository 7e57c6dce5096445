"""Verification of downloaded archives by their published checksums."""

import hashlib
import zlib
from pathlib import Path
from typing import Any

from gan_lightning.errors import InputError


def check_archives(dataset: Any, root: Path | str, *, remove: bool) -> None:
    """Compare the archives of MNIST, or of another data set in its format, with their published MD5 sums.

    torchvision loads the unpacked files without checking them. They are compared with the checksum in the archive's
    last bytes, as an interrupted run may have unpacked half a file.

    Args:
        dataset: Class of the data set; nothing is done if its ``resources`` are no gzip archives.
        root: The folder that holds the data sets.
        remove: Whether to remove a damaged file for which there is an intact archive, so that it is unpacked again.

    Raises:
        InputError: If an archive, or an unpacked file that is not removed, is damaged.
    """
    resources = getattr(dataset, "resources", None)
    for name, md5 in resources if isinstance(resources, list) else ():
        archive = Path(root) / dataset.__name__ / "raw" / name
        if archive.suffix != ".gz" or not archive.is_file():
            continue
        content = archive.read_bytes()
        if (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != md5:
            advice = "delete it, and restore it with git checkout or let the next run download it"
            raise InputError(f"{archive}: the file is damaged (its MD5 sum is {found}, not {md5}); {advice}")
        unpacked = archive.with_suffix("")
        if unpacked.is_file() and zlib.crc32(unpacked.read_bytes()) != int.from_bytes(content[-8:-4], "little"):
            if not remove:
                raise InputError(f"{unpacked}: the file is damaged; delete it, and it is unpacked again")
            unpacked.unlink()

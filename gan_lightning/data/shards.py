"""Pictures in shards: large files in litdata's format, in a folder or in object storage."""

import bisect
import copy
import hashlib
import json
import logging
import os
import shutil
from functools import cached_property
from importlib.util import find_spec
from io import BytesIO
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from filelock import FileLock
from PIL import Image
from torchvision.transforms.functional import to_pil_image

from gan_lightning.data.conversion import CANNOT_READ
from gan_lightning.data.folder import MAX_TEST, TEST_SHARE, readable_formats
from gan_lightning.errors import InputError, one_line, third_party_errors

INDEX = "index.json"
PICTURES = ("bytes", "jpeg", "pil")  # litdata's names; with "pickle", reading would execute code from the shards
MIN_CACHED = 24  # shards; the order of the images mixes some 8 at a time, and workers read ahead
GB = 10**9


class Shards:
    """Pictures and labels from shards that litdata's ``optimize`` wrote, each a pair (picture, label).

    A picture is the content of its file in bytes, or an image as litdata stores it. The shards are in ``root/train``
    and ``root/test``, or in ``root``; then the first tenth of the pictures, at most 1,000, are for testing.

    Args:
        root: A folder, or a URL that litdata knows, as ``s3://bucket/folder``. Shards of a URL are downloaded when
            they are needed, into litdata's cache folder, which the environment variable LITDATA_CACHE_DIR can name.
        cache_gb: Size of that cache for each split; the least recently used shards are removed from it. None: half of
            the space that the disk would have without it.

    Raises:
        ModuleNotFoundError: If litdata is not installed.
        ValueError: If ``cache_gb`` is out of range.
        InputError: If there are no such shards, or if the cache would hold too few of them.
    """

    def __init__(self, root: str, *, cache_gb: float | None = None) -> None:
        if not find_spec("litdata"):
            raise ModuleNotFoundError("needs litdata; pip install 'gan-lightning[shards]'")
        if cache_gb is not None and not cache_gb > 0:
            raise ValueError(f"cache_gb={cache_gb}: must be above 0, or null")
        remote = is_url(root)
        if not remote and not Path(root).is_dir():
            raise InputError(f"data.root={root}: {'must be a folder' if Path(root).exists() else 'no such folder'}")
        try:
            self.reader = Reader(f"{root}/train", cache_gb)
        except NoShardsError:
            self.reader = self.test_reader = Reader(root, cache_gb)
            if (number := len(self.reader)) < 3:
                need = "at least 3 are needed, to train, validate and test"
                raise InputError(f"data.root={root}: has {number} picture{'s' * (number != 1)}; {need}") from None
            held_out = min(max(int(TEST_SHARE * number), 1), MAX_TEST)
            self.indices, self.test_indices = range(held_out, number), range(held_out)
        else:
            self.test_reader = Reader(f"{root}/test", cache_gb)
            self.indices, self.test_indices = range(len(self.reader)), range(len(self.test_reader))

    def check(self, _: Any) -> str:
        """Return in one line what there is; the pictures are not opened."""
        readers = {id(reader): reader for reader in (self.reader, self.test_reader)}.values()
        return f"{sum(map(len, readers))} pictures in {sum(len(reader.names) for reader in readers)} shards"

    @property
    def blocks(self) -> list[int]:
        """Numbers of consecutive training pictures that are in one shard."""
        ends = [max(end - self.indices.start, 0) for end in (0, *self.reader.ends)]
        return [end - start for start, end in pairwise(ends) if end > start]

    @cached_property
    def targets(self) -> list[int]:
        """All labels; reads all shards, but decodes no picture."""
        return [int(self.reader.read(index)[1]) for index in self.indices]

    def test_set(self) -> "Shards":
        """Return the pictures for testing."""
        other = copy.copy(self)
        other.reader, other.indices = self.test_reader, self.test_indices
        other.__dict__.pop("targets", None)  # those of the training pictures, if they are known
        return other

    def fingerprint(self) -> str:
        """Return a hash of the shards' names and sizes."""
        return hashlib.sha256(self.reader.index + self.test_reader.index).hexdigest()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        picture, label = self.reader.read(self.indices[index])
        if not isinstance(picture, bytes | memoryview):
            return picture if isinstance(picture, Image.Image) else to_pil_image(picture), label
        name = f"picture {self.indices[index]} of {self.reader.root}"
        with third_party_errors(f"{name}: {CANNOT_READ}"):
            image = Image.open(BytesIO(picture), formats=readable_formats())
        image.filename = name  # for messages
        return image, label


class Reader:
    """The items of a folder of shards, or of its URL, by their number.

    Args:
        root: The folder, or its URL.
        cache_gb: See :class:`Shards`.

    Raises:
        NoShardsError: If there are no shards, or if they cannot be reached.
        InputError: If their items are others than pictures with labels, or if the cache would hold too few of them.
    """

    def __init__(self, root: str, cache_gb: float | None) -> None:
        self.root, self.cache_gb = root, cache_gb
        if not is_url(root) and not Path(root, INDEX).is_file():  # litdata would try to write one
            raise NoShardsError(f"data.root={root}: has no shards, whose {INDEX} is missing")
        try:
            self.stream = self.open()
        except Exception as error:
            raise NoShardsError(f"data.root={root}: cannot be read as shards: {one_line(error)}") from error
        self.folder = Path(self.stream.input_dir.path)  # for a URL, that of the cache
        self.index = (self.folder / INDEX).read_bytes()
        with third_party_errors(f"data.root={root}: has an {INDEX} that is not litdata's"):
            content = json.loads(self.index)
            config, chunks = content["config"], content["chunks"]
            if not holds_pictures(config):
                raise InputError(f"data.root={root}: its shards must hold pairs (picture, label), uncompressed")
            self.names = [str(chunk["filename"]) for chunk in chunks]
            self.sizes = [int(chunk["chunk_bytes"]) for chunk in chunks]
            self.ends = [*accumulate(int(chunk["chunk_size"]) for chunk in chunks)]
        if any(Path(name).name != name for name in self.names):  # a file elsewhere could be overwritten
            raise InputError(f"data.root={root}: has an {INDEX} that names files of other folders")
        needed = min(sum(self.sizes), MIN_CACHED * max(self.sizes, default=0)) / GB
        if is_url(root) and cache_gb is not None and cache_gb < needed:
            raise InputError(
                f"data.dataset.cache_gb={cache_gb}: must be at least {needed:.3g}, for {MIN_CACHED} shards"
            )

    def open(self) -> Any:
        """Return litdata's data set for this process."""
        from litdata import StreamingDataset

        logging.getLogger("litdata").setLevel(logging.WARNING)
        self.process = os.getpid()
        return StreamingDataset(self.root, batch_decode=0)

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def read(self, index: int) -> Any:
        """Return an item. A URL's shard is downloaded whole, as litdata would request each item by itself."""
        if self.process != os.getpid():  # a worker must not share its parent's open files, nor connections
            self.stream = self.open()
        if is_url(self.root):
            self.fetch(bisect.bisect_right(self.ends, index))
        return self.stream[index]

    def fetch(self, number: int) -> None:
        """Download a shard unless it is in the cache, and mark it as used now."""
        path = self.folder / self.names[number]
        try:
            os.utime(path)
        except FileNotFoundError:
            from litdata.streaming.downloader import get_downloader

            with FileLock(f"{path}.fetch"):  # other workers and ranks wait for it
                if not path.exists():
                    self.make_room(self.sizes[number])
                    url = f"{self.root}/{path.name}"
                    with third_party_errors(f"{url}: cannot be downloaded"):
                        get_downloader(self.root, str(self.folder), []).download_file(url, str(path))

    def make_room(self, size: int) -> None:
        """Remove the least recently used shards from the cache until one of a size fits."""
        found = []
        for name, bytes_ in zip(self.names, self.sizes, strict=True):
            path = self.folder / name
            if path.exists():
                found.append((path.stat().st_mtime, bytes_, path))
        held = sum(bytes_ for _, bytes_, _ in found)
        limit = (held + shutil.disk_usage(self.folder).free) / 2 if self.cache_gb is None else self.cache_gb * GB
        for _, bytes_, path in sorted(found):
            if held + size <= limit:
                break
            path.unlink(missing_ok=True)
            held -= bytes_


class NoShardsError(InputError):
    """There are no shards where they should be."""


def holds_pictures(config: dict[str, Any]) -> bool:
    """Return whether shards with a config of litdata's index hold pairs (picture, label), and no compression."""
    picture, *label = config["data_format"]
    _, spec = json.loads(config["data_spec"])
    is_pair = spec["type"] == "builtins.tuple" and [part["type"] for part in spec["children_spec"]] == [None, None]
    is_simple = not any(config.get(name) for name in ("compression", "encryption", "format"))
    return picture in PICTURES and label == ["int"] and is_pair and is_simple


def is_url(root: str) -> bool:
    """Return whether a root is a URL that litdata knows; ``local:`` treats a folder like one."""
    return root.startswith(("s3://", "gs://", "azure://", "r2://", "local:"))

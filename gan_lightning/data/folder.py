"""A folder of the user's own pictures."""

import copy
import hashlib
import logging
import os
import random
import stat
import warnings
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from PIL import Image
from pytorch_lightning.utilities import rank_zero_only

from gan_lightning.data.conversion import CANNOT_READ, Conversion
from gan_lightning.errors import InputError, one_line, third_party_errors

TEST_SHARE, MAX_TEST = 0.1, 1000  # of pictures that are not split into train and test
UNREADABLE = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")  # formats that Pillow identifies, but cannot read by itself
MAX_NAMED = 10  # classes in a message
VALIDATION = ("val", "valid", "validation", "dev")
UNREAD = "that cannot be read"
SKIP = "data.on_error=skip leaves such files out"
warnings.filterwarnings("ignore", module="PIL")  # of large pictures, which are read, and of damaged EXIF data
warn = rank_zero_only(logging.getLogger(__name__).warning)  # of the first of several devices


class Folder:
    """The pictures of a folder and their classes, in an order that mixes the classes.

    A class is a folder with all the pictures in it and below it; pictures without such a folder have class 0. These are
    in ``root/train`` and ``root/test``, or in ``root``, or in ``root/train`` if it is the only folder there; then a
    tenth, at most 1,000, are for testing. A picture is any file with an extension that Pillow reads. Hidden files and
    folders are ignored, and so are links to a folder that they are in.

    Args:
        root: The folder.
        on_error: What happens to a file that cannot be read: "raise" an error when that is found, or "skip" it. For
            the latter, :meth:`check` reads all files.

    Raises:
        ValueError: If an argument is out of range.
        InputError: If the folder has too few pictures, or if ``test`` has a class that ``train`` does not have.
    """

    def __init__(self, root: str, *, on_error: str = "raise") -> None:
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error={on_error}: must be raise or skip")
        self.root, self.on_error = Path(root), on_error
        self.ignored: Counter[str] = Counter()  # number of files that are left out, by reason
        if not self.root.is_dir():
            raise InputError(f"data.root={root}: {'must be a folder' if self.root.exists() else 'no such folder'}")
        splits = self.find_splits()
        files = {split: list(self.find(split)) for split in splits}
        first = next(iter(files.values()))
        classes = sorted({name for name, _ in first})
        for split, found in files.items():
            if not found:
                raise InputError(f"data.root={root}: has no pictures in {split}{self.explanation()}")
            if unknown := sorted({name for name, _ in found}.difference(classes)):
                what = "a class of which" if unknown[0] else "has pictures outside of class folders, of which"
                raise InputError(f"{printable(str(split / unknown[0]))}: {what} {splits[0]} has no images")
        self.classes = classes
        labels = {name: label for label, name in enumerate(classes)}
        pictures = {split: [(path, labels[name]) for name, path in found] for split, found in files.items()}
        for listed in pictures.values():
            random.Random(0).shuffle(listed)
        if len(splits) == 2:
            self.files, self.test_files = pictures.values()
        else:
            (self.files,) = pictures.values()
            if (number := len(self.files)) < 3:
                need = "at least 3 are needed, to train, validate and test"
                raise InputError(
                    f"data.root={root}: has {number} picture{'s' * (number > 1)}; {need}{self.explanation()}"
                )
            number = min(max(int(TEST_SHARE * len(self.files)), 1), MAX_TEST)
            self.files, self.test_files = self.files[number:], self.files[:number]

    def find_splits(self) -> list[Path]:
        """Return the folders of the training and the test pictures, or the one that has both."""
        _, folders, names = next(os.walk(self.root, onerror=self.leave_out), ("", [], []))
        found = {name.lower(): name for name in sorted(folders) if not name.startswith(".")}
        if not {"train", "test"} <= found.keys() and found.keys() != {"train"}:
            if not found or not found.keys() <= {"train", "test", *VALIDATION}:
                return [self.root]
            listed = " and ".join(found.values())
            raise InputError(
                f"data.root={self.root}: has no folders but {listed}; must have train and test, or neither"
            )
        splits = [name for name in ("train", "test") if name in found]
        self.ignored.update(f"folder named {found[name]}" for name in sorted(found.keys() - splits))
        self.ignored[f"beside {' and '.join(splits)}"] += sum(not name.startswith(".") for name in names)
        return [self.root / found[name] for name in splits]

    def find(self, folder: Path) -> Iterator[tuple[str, str]]:
        """Yield the class and the path of each picture in a folder, sorted."""
        extensions = Image.registered_extensions()
        for parent, folders, names in os.walk(folder, onerror=self.leave_out, followlinks=True):
            hidden = [name for name in names if name.startswith(".")]
            folders[:] = sorted(
                name for name in folders if not name.startswith((".", "__MACOSX")) and not is_loop(Path(parent, name))
            )
            self.ignored["hidden"] += len(hidden)
            for name in sorted(set(names).difference(hidden)):
                extension = Path(name).suffix.lower()
                if (kind := extensions.get(extension)) in Image.OPEN and kind not in UNREADABLE:
                    parts = Path(parent).relative_to(folder).parts
                    yield parts[0] if parts else "", str(Path(parent, name))
                else:
                    self.ignored[f"with the extension {extension}" if extension else "without an extension"] += 1

    def leave_out(self, error: OSError) -> None:
        """Count a folder that cannot be read, or raise its error."""
        if self.on_error == "raise":
            raise error
        self.ignored[UNREAD] += 1
        warn("%s", one_line(error))

    def explanation(self) -> str:
        """Return what has been left out, in words for a message."""
        left_out = [f"{number} {reason}" for reason, number in self.ignored.items() if number]
        return f"; left out: {', '.join(left_out)}" if left_out else ""

    def check(self, conversion: Conversion) -> str:
        """Open all files, and return in one line what the conversion does to them.

        Raises:
            InputError: If a file cannot be opened, or, with ``on_error=skip``, if none is left of a split.
        """
        changes: Counter[str] = Counter()
        for files in (self.files, self.test_files):
            readable = []
            for path, label in files:
                name = printable(path)
                try:
                    if not stat.S_ISREG(Path(path).stat().st_mode):  # opening a pipe would wait for ever
                        raise ValueError("it is no regular file")
                    with Image.open(path, formats=readable_formats()) as image:
                        found = [*conversion.changes(image)]
                        if self.on_error == "skip":
                            conversion(image)
                except Exception as error:  # Pillow raises many kinds
                    if self.on_error == "raise":
                        raise InputError(f"{name}: {CANNOT_READ}: {one_line(error)}; {SKIP}") from error
                    self.ignored[UNREAD] += 1
                    warn("%s: %s: %s", name, CANNOT_READ, one_line(error))
                    continue
                changes.update(found)
                readable.append((path, label))
            files[:] = readable
        if not self.files or not self.test_files:
            raise InputError(f"data.root={self.root}: too few pictures can be read{self.explanation()}")
        by_number = sorted(changes.items(), key=lambda item: (-item[1], item[0]))
        counts = ", ".join(f"{number} {change}" for change, number in by_number)
        summary = f"{len(self.files) + len(self.test_files)} pictures"
        if len(self.classes) > 1:
            names = ", ".join(f"{label} {printable(name)}" for label, name in enumerate(self.classes[:MAX_NAMED]))
            summary += f" of {len(self.classes)} classes ({names}{', ...' * (len(self.classes) > MAX_NAMED)})"
        return f"{summary}{': ' * bool(counts)}{counts}{self.explanation()}"

    @property
    def targets(self) -> list[int]:
        """Labels of the training pictures."""
        return [label for _, label in self.files]

    def test_set(self) -> "Folder":
        """Return the pictures for testing."""
        other = copy.copy(self)
        other.files = self.test_files
        return other

    def fingerprint(self) -> str:
        """Return a hash of the names of all pictures, in their order."""
        names = (os.path.relpath(path, self.root) for path, _ in (*self.files, *self.test_files))
        return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        path, label = self.files[index]
        with third_party_errors(f"{printable(path)}: {CANNOT_READ}"):
            content = BytesIO(Path(path).read_bytes())  # leaves no file open
            image = Image.open(content, formats=readable_formats())
        image.filename = printable(path)  # for messages
        return image, label


def readable_formats() -> list[str]:
    """Return the formats that Pillow reads by itself; for EPS it would run Ghostscript, whatever the file's name is."""
    Image.init()
    return [name for name in Image.OPEN if name not in UNREADABLE]


def is_loop(folder: Path) -> bool:
    """Return whether a folder is a link to one that it is in."""
    return folder.is_symlink() and folder.resolve() in {parent.resolve() for parent in folder.absolute().parents}


def printable(path: str) -> str:
    """Return a path with escapes for line breaks and what else cannot be printed on a line."""
    return path if path.isprintable() else repr(path)[1:-1]

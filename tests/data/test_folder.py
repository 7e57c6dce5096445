import itertools
import os
import re
import shutil
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from gan_lightning.data.conversion import Conversion
from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.data.folder import Folder
from gan_lightning.errors import InputError
from tests.helpers import call

EXTENSIONS = (".jpg", ".JPG", ".jpeg", ".png", ".PNG", ".gif", ".webp", ".bmp", ".tif", ".jfif")


def write(folder: Path, number: int = 1, *, extensions: tuple[str, ...] = (".png",), first: int = 0) -> Path:
    """Write pictures of one gray level and of different sizes, and return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, extension in zip(range(first, first + number), itertools.cycle(extensions), strict=False):
        kind = "JPEG" if extension == ".jfif" else None
        Image.new("RGB", (20 + i % 7, 30 - i % 5), (i, i, i)).save(folder / f"{i}{extension}", kind)
    return folder


def make(root: Path, **changes: Any) -> ImageDataModule:
    """Return a data module of a folder, set up."""
    arguments: dict[str, Any] = {"dataset": Folder, "root": str(root), "batch_size": 4, "val_size": None, "seed": 0}
    data = ImageDataModule(**arguments | {"image_size": 8, "channels": 1, "in_memory": None} | changes)
    data.prepare_data()
    data.setup()
    return data


def levels(images: torch.Tensor) -> list[int]:
    return sorted(int(image.float().mean().round()) for image in images)


def test_a_flat_folder_is_split(tmp_path: Path) -> None:
    write(tmp_path, 60, extensions=EXTENSIONS)
    (tmp_path / "._0.png").write_bytes(b"\0\5\26\7")  # as macOS writes
    (tmp_path / "notes.txt").write_text("no picture")
    data = make(tmp_path)
    assert [len(part) for part in (data.train, data.val, data.test)] == [49, 5, 6]
    found = levels(torch.cat([part[torch.arange(len(part))][0] for part in (data.train, data.val, data.test)]))
    assert (np.abs(np.array(found) - np.arange(60)) <= 2).all()  # each picture once; JPEG is not exact
    assert data.val.labels.tolist() == [0] * 5


def test_class_folders(tmp_path: Path) -> None:
    write(tmp_path / "b" / "deep", 10)
    write(tmp_path / "a", 10, first=10)
    data = make(tmp_path, val_size=2)
    for part in (data.train, data.val, data.test):
        images, labels = part[torch.arange(len(part))]
        assert all(label == (level < 10) for level, label in zip(images[:, 0, 0, 0].tolist(), labels, strict=True))
    assert 0 < data.train.labels.float().mean() < 1


def test_train_and_test_folders(tmp_path: Path) -> None:
    write(tmp_path / "train", 10)
    write(tmp_path / "test", 3, first=10)
    data = make(tmp_path)
    assert [len(part) for part in (data.train, data.val, data.test)] == [9, 1, 3]
    assert levels(data.test[torch.arange(3)][0]) == [10, 11, 12]


def test_test_images_have_the_labels_of_the_training_images(tmp_path: Path) -> None:
    for i, name in enumerate(("train/a", "train/b", "train/c", "test/a", "test/c")):
        write(tmp_path / name, first=i)
    folder = Folder(str(tmp_path))
    assert sorted(folder.targets) == [0, 1, 2]
    assert sorted(folder.test_set().targets) == [0, 2]


def test_a_class_without_training_images_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train" / "a")
    write(tmp_path / "test" / "d")
    with pytest.raises(InputError, match=r"test/d: a class of which .*train has no images"):
        Folder(str(tmp_path))


def test_folders_without_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: no such folder"):
        Folder(str(tmp_path / "absent"))
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    (tmp_path / "train" / "a.txt").touch()
    with pytest.raises(InputError, match=r"has no pictures in .*train; left out: 1 with the extension .txt"):
        Folder(str(tmp_path))
    write(tmp_path / "few", 2)
    with pytest.raises(InputError, match="few: has 2 pictures; at least 3 are needed, to train, validate and test"):
        make(tmp_path / "few")
    (tmp_path / "file").touch()
    for path in ("file", "file/below"):
        with pytest.raises(InputError, match=f"^data.root=.*{path}: (no such|must be a) folder"):
            make(tmp_path / path)


@pytest.mark.parametrize(("names", "listed"), [(("test",), "test"), (("train", "val"), "train and val")])
def test_half_a_split_is_refused(tmp_path: Path, names: tuple[str, ...], listed: str) -> None:
    for name in names:
        write(tmp_path / name / "a", 3)
    with pytest.raises(InputError, match=f": has no folders but {listed}; must have train and test, or neither"):
        Folder(str(tmp_path))


def test_train_is_split_if_it_is_the_only_folder(tmp_path: Path) -> None:
    write(tmp_path / "Train" / "a", 5)
    write(tmp_path / "Train" / "b", 5)
    (tmp_path / ".cache").mkdir()
    folder = Folder(str(tmp_path))
    assert (len(folder), len(folder.test_set())) == (9, 1)
    assert set(folder.targets) == {0, 1}


def test_what_is_beside_train_and_test_is_counted(tmp_path: Path) -> None:
    for name in ("Train/a", "Train/b", "TEST/a", "TEST/b", "val/a"):
        write(tmp_path / name, 2)
    write(tmp_path, 3)
    folder = Folder(str(tmp_path))
    assert (len(folder), len(folder.test_set()), set(folder.targets)) == (4, 4, {0, 1})
    found = "8 pictures of 2 classes (0 a, 1 b); left out: 1 folder named val, 3 beside train and test"
    assert folder.check(Conversion()) == found


def test_train_can_be_a_class(tmp_path: Path) -> None:
    for name in ("car", "train", "plane"):
        write(tmp_path / name, 10)
    assert set(Folder(str(tmp_path)).targets) == {0, 1, 2}


def test_an_empty_class_is_none(tmp_path: Path) -> None:
    write(tmp_path / "a", 5)
    write(tmp_path / "c", 5)
    (tmp_path / "b").mkdir()
    assert set(Folder(str(tmp_path)).targets) == {0, 1}


def test_the_order_does_not_depend_on_where_the_folder_is(tmp_path: Path) -> None:
    first = Folder(str(write(tmp_path / "one", 20)))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    second = Folder(str(tmp_path / "two"))
    assert [Path(path).name for path, _ in first.files] == [Path(path).name for path, _ in second.files]
    assert first.fingerprint() == second.fingerprint()
    write(tmp_path / "two", 1, first=20)
    assert first.fingerprint() != Folder(str(tmp_path / "two")).fingerprint()


def test_loops_of_links_end(tmp_path: Path) -> None:
    write(tmp_path / "a", 5)
    write(tmp_path / "b" / "deep", 5, first=5)
    (tmp_path / "a" / "itself").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "root").symlink_to(tmp_path)
    (tmp_path / "b" / "deep" / "c").symlink_to(write(tmp_path.with_name("elsewhere"), 5, first=10))
    (tmp_path.with_name("elsewhere") / "back").symlink_to(tmp_path / "b" / "deep")
    folder = Folder(str(tmp_path))
    assert sorted(int(Path(path).stem) for path, _ in (*folder.files, *folder.test_files)) == [*range(15)]


@pytest.mark.parametrize(
    "name", ["a\nb", "a  b", os.fsdecode(b"\xff\xfe"), "%s%d", "k=1", "[a]", "{b}", "${c}", "~", "'\"\\"]
)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_any_name(tmp_path: Path, name: str, on_error: str, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / name, 12)
    Image.new("L", (9, 9)).save(tmp_path / "new.png")
    (tmp_path / "new.png").rename(tmp_path / name / f"{name}.png")
    data = make(tmp_path, on_error=on_error)
    assert len(data.train) + len(data.val) + len(data.test) == 13
    (tmp_path / name / f"{name}.png").write_bytes(b"")
    shown = re.escape(name if name.isprintable() else repr(name)[1:-1])
    message = ""
    if on_error == "raise":
        with pytest.raises(InputError) as refused:
            make(tmp_path)
        message = str(refused.value)
    else:
        make(tmp_path, on_error="skip")
        (message,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert re.match(rf".*/{shown}/{shown}\.png: cannot be read as a picture: ", message)
    assert message.isprintable()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, 12)
    (tmp_path / "none.png").symlink_to(tmp_path / "absent")
    with pytest.raises(InputError, match=r"none\.png: cannot be read as a picture: .*No such file"):
        make(tmp_path)
    (tmp_path / "none.png").unlink()
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match=r"pipe\.png: cannot be read as a picture: it is no regular file"):
        make(tmp_path)
    assert len(make(tmp_path, on_error="skip").train) == 10


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 12)
    locked = write(tmp_path / "locked", 12)
    scan = os.scandir

    def refuse(path: str) -> Any:
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"^data\.root=.*: cannot be read as Folder: .*Permission denied: '.*locked'"):
        make(tmp_path)
    data = make(tmp_path, on_error="skip")
    assert len(data.train) + len(data.val) + len(data.test) == 12


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_file_that_vanishes_is_named(tmp_path: Path, num_workers: int) -> None:
    data = make(write(tmp_path, 12), in_memory=False, num_workers=num_workers)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"\d\.png: cannot be read as a picture: .*No such file") as refused:
        list(data.train_dataloader())
    assert "\n" not in str(refused.value)


def test_a_streamed_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture's header is read once, and in each epoch the picture itself."""
    write(tmp_path / "a", 20)
    listed: list[str] = []
    opened: Counter[str] = Counter()
    scan, open_image = os.scandir, Image.open
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scan(path))

    def count(file: Any, **_: Any) -> Image.Image:
        opened[type(file).__name__] += 1
        return open_image(file)

    monkeypatch.setattr(Image, "open", count)
    data = make(tmp_path, in_memory=False, num_workers=0)
    assert sorted(listed) == [str(tmp_path), str(tmp_path), str(tmp_path / "a")]
    assert opened["str"] == 20
    held = opened["BytesIO"]
    for epoch in (1, 2):
        list(data.train_dataloader())
        assert len(listed) == 3
        assert opened["str"] == 20
        assert opened["BytesIO"] == held + epoch * len(data.train_dataloader()) * 4


def test_large_pictures_are_read_without_a_warning(tmp_path: Path) -> None:
    write(tmp_path, 12)
    Image.new("1", (10_000, 9_000)).save(tmp_path / "large.png")
    program = f"from tests.data.test_folder import *; print(len(make(Path({str(tmp_path)!r})).train))"
    done = call("-c", program, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("11\n", "")


def test_images_of_several_shapes_need_a_size(tmp_path: Path) -> None:
    Image.new("L", (9, 9)).save(write(tmp_path, 12) / "gray.png")
    for changes in ({"image_size": None}, {"channels": None}):
        with pytest.raises(InputError, match=r"must have images of one size; set data.image_size and data.channels: "):
            make(tmp_path, **changes)


def damage(path: Path, how: str) -> None:
    """Write a file that cannot be read as a picture."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    header = struct.pack(">4s2I5B", b"IHDR", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    if how == "too large":
        Image.new("1", (20_000, 10_000)).save(path)
    else:
        Image.fromarray(noise).save(path)
    content = path.read_bytes()
    changed = {
        "empty": b"",
        "text": b"no picture",
        "cut off": content[: len(content) // 2],
        "zeroed": content[: len(content) // 2].ljust(len(content), b"\0"),
        "huge": content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:],
        "damaged chunk": content[:200] + bytes(byte ^ 255 for byte in content[200:300]) + content[300:],
    }
    path.write_bytes(changed.get(how, content))


DAMAGES = ["empty", "text", "cut off", "zeroed", "damaged chunk", "too large", "huge"]


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("num_workers", [None, 0, 1])
def test_a_damaged_picture_is_named(tmp_path: Path, how: str, num_workers: int | None) -> None:
    write(tmp_path, 12)
    damage(tmp_path / "broken.png", how)
    how_to_read: dict[str, Any] = {"batch_size": 1}  # so that all are read in a pass
    if num_workers is not None:
        how_to_read |= {"in_memory": False, "num_workers": num_workers}
    with pytest.raises(InputError, match=r"broken\.png: cannot be read as a picture: .+") as refused:
        list(make(tmp_path, **how_to_read).train_dataloader())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("extension", [".jpg", ".webp", ".gif", ".tif", ".bmp", ".ppm", ".avif", ".ico"])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_half_a_picture_of_any_format_is_named(tmp_path: Path, extension: str, num_workers: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (12, 64, 64, 3), np.uint8)
    for i, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / f"{i}{extension}")
    data = make(tmp_path, in_memory=False, num_workers=num_workers, batch_size=1)
    path = Path(data.train.dataset.files[0][0])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"^{path}: cannot be read as a picture: .+") as refused:
        list(data.train_dataloader())
    assert "\n" not in str(refused.value)
    assert len(make(tmp_path, on_error="skip").train) == 9


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_pictures_are_skipped_and_counted(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    write(tmp_path, 12)
    damage(tmp_path / "broken.png", how)
    data = make(tmp_path, on_error="skip")
    assert len(data.train) + len(data.val) + len(data.test) == 12
    assert (
        "12 pictures: 12 converted to grayscale, 12 resized and cropped; left out: 1 that cannot be read" in caplog.text
    )
    assert "broken.png" in caplog.text


def test_a_scale_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, 12)
    Image.fromarray(np.full((9, 9), 4000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match=r"deep\.png: cannot be read as a picture: has values from 4000 .* data.white"):
        make(tmp_path)
    data = make(tmp_path, white=4000)
    assert 255 in levels(torch.cat([part[torch.arange(len(part))][0] for part in (data.train, data.val, data.test)]))


@pytest.mark.parametrize("in_memory", [True, False])
def test_few_pictures_are_repeated(tmp_path: Path, in_memory: bool) -> None:
    data = make(write(tmp_path, 8), batch_size=16, in_memory=in_memory, num_workers=0)
    (batch,) = list(data.train_dataloader())
    assert len(data.train) == 6
    assert len(batch[0]) == 16
    assert len(set(levels(batch[0]))) == 6


def test_on_error_is_validated(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on_error=ignore: must be raise or skip"):
        Folder(str(tmp_path), on_error="ignore")


def test_conversions_are_said(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "0.png")
    write(tmp_path, 2, first=1)
    line = Folder(str(tmp_path)).check(Conversion(size=8, channels=3))
    assert line == "3 pictures: 2 resized and cropped, 1 converted to color"


def test_a_message_from_a_worker_loses_its_traceback() -> None:
    line = "a.png: cannot be read"
    assert str(InputError(line)) == line
    assert str(InputError(f"Caught InputError in worker 0.\nTraceback\n  File\nerrors.InputError: {line}\n")) == line


def test_postscript_is_not_run_whatever_its_name(tmp_path: Path) -> None:
    write(tmp_path, 12)
    (tmp_path / "script.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(InputError, match=r"script\.png: cannot be read as a picture: cannot identify image file"):
        make(tmp_path)


def test_the_headers_of_png_files_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 12)
    monkeypatch.setattr(PngImageFile, "load", lambda self: pytest.fail("reads the pixels"))
    assert "12 pictures" in Folder(str(tmp_path)).check(Conversion(size=8, channels=1))


def test_classes_are_numbered_in_the_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for name in ("cats", "Zebras"):
        write(tmp_path / name, 10)
    make(tmp_path, num_classes=2)
    assert "20 pictures of 2 classes (0 Zebras, 1 cats): " in caplog.text
    assert "; 17 to train, 1 to validate, 2 to test" in caplog.text
    for number, allowed in ((1, "at least 2"), (3, "at most 2")):
        with pytest.raises(InputError, match=rf"^model\.num_classes={number}: must be {allowed} for this data set$"):
            make(tmp_path, num_classes=number)

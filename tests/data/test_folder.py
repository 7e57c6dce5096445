from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_lightning.data.folder import Folder, read
from gan_lightning.errors import InputError


def test_16_bit_grayscale_is_reduced_to_8_bits(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(tmp_path / "deep.png")
    image = read(str(tmp_path / "deep.png"))
    assert image.mode == "RGB"
    assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 255]


@pytest.mark.parametrize("size", [0, 60])
def test_an_unreadable_image_is_named(tmp_path: Path, size: int) -> None:
    path = tmp_path / "broken.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"broken\.png: cannot be read"):
        read(str(path))


def test_an_image_that_pillow_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8)  # a DecompressionBombError, which is no OSError
    Image.new("L", (9, 9)).save(tmp_path / "large.png")
    with pytest.raises(InputError, match=r"large\.png: cannot be read as an image: .*exceeds limit"):
        read(str(tmp_path / "large.png"))


@pytest.mark.parametrize(
    ("changes", "line"), [({"size": 0}, r"^size=0: .* at least 1"), ({"channels": 2}, r"^channels=2: .* 1 .* or 3 ")]
)
def test_arguments_are_validated(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Folder("", **({"size": 28, "channels": 1, "train": True, "download": False} | changes))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_images_are_resized_and_cropped(tmp_path: Path, channels: int, mode: str) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    Image.new("RGBA", (40, 20), (9, 9, 9, 128)).save(tmp_path / "train" / "a" / "0.png")
    image, label = Folder(str(tmp_path), size=10, channels=channels, train=True, download=True)[0]
    assert (image.size, image.mode, label) == ((10, 10), mode, 0)


def folder_of(root: Path, **classes: list[str]) -> Path:
    """Write an image for each of the classes of each split."""
    for split, names in classes.items():
        for name in names:
            (root / split / name).mkdir(parents=True)
            Image.new("L", (8, 8)).save(root / split / name / "0.png")
    return root


def test_test_images_have_the_labels_of_the_training_images(tmp_path: Path) -> None:
    root = str(folder_of(tmp_path, train=["a", "b", "c"], test=["a", "c"]))
    train, test = (Folder(root, size=8, channels=1, train=train, download=False) for train in (True, False))
    assert test.class_to_idx == train.class_to_idx
    assert sorted(label for _, label in test.samples) == [0, 2]
    assert train.targets == [label for _, label in train.samples]


def test_a_class_without_training_images_is_refused(tmp_path: Path) -> None:
    root = str(folder_of(tmp_path, train=["a"], test=["a", "d"]))
    with pytest.raises(InputError, match=r"test/d: a class of which .*train has no images"):
        Folder(root, size=8, channels=1, train=False, download=False)


def test_a_test_folder_without_images_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, train=["a"])
    (tmp_path / "test" / "a").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no images in .*test"):
        Folder(str(tmp_path), size=8, channels=1, train=False, download=False)


def test_a_message_from_a_worker_loses_its_traceback() -> None:
    line = "a.png: cannot be read"
    assert str(InputError(line)) == line
    assert str(InputError(f"Caught InputError in worker 0.\nTraceback\n  File\nerrors.InputError: {line}\n")) == line

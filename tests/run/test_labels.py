"""A conditional run, and what its checkpoint can be asked for."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import gan_lightning
from gan_lightning import sampling
from gan_lightning.errors import InputError
from tests import helpers
from tests.helpers import command


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small finished run with classes."""
    folder = tmp_path_factory.mktemp("runs") / "conditional"
    return helpers.run(folder, "model.num_classes=10", "optimizer/scheduler=constant")


def test_a_run_reports_the_agreement(conditional: Path, run: Path) -> None:
    values = helpers.metrics(conditional)
    assert 0 <= values["label_agreement_min"] <= values["label_agreement"] <= 1
    assert "label_agreement" not in helpers.metrics(run)
    assert "metrics/label_agreement" in helpers.scalars(conditional)


def test_the_grid_has_a_row_per_class(conditional: Path) -> None:
    with Image.open(conditional / "samples.png") as picture:
        assert picture.size == (2 * (7 * 30 + 2), 2 * (10 * 30 + 2))


def test_a_resumed_run_is_the_same(conditional: Path, tmp_path: Path) -> None:
    typed = ["model.num_classes=10", "optimizer/scheduler=constant", "trainer.max_steps=7"]
    half = helpers.run(tmp_path / "half", *typed)
    helpers.assert_same_training(helpers.resume(half, "trainer.max_steps=12"), conditional)


@pytest.mark.parametrize(("typed", "labels"), [("label=7", [7]), ("labels=[0,1,2]", [0, 1, 2]), ("num_images=6", None)])
def test_sample(conditional: Path, tmp_path: Path, typed: str, labels: list[int] | None) -> None:
    done = command("sample", f"checkpoint={conditional}", "num_images=6", typed, "out=samples.npz", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    array = np.load(tmp_path / "samples.npz")["arr_0"]
    gan = gan_lightning.load(conditional)
    images = next(sampling.sample(gan, 6, seed=0, labels=labels or range(10)))
    assert np.array_equal(array[..., 0], images.add(1).mul(127.5).round().to(torch.uint8)[:, 0].numpy())


@pytest.mark.parametrize("show", ["interpolation", "nearest"])
def test_figures_of_one_class(conditional: Path, tmp_path: Path, show: str) -> None:
    typed = [f"show={show}", "label=3", "num_images=2", "out=figure.png"]
    assert command("sample", f"checkpoint={conditional}", *typed, cwd=tmp_path).returncode == 0
    assert (tmp_path / "figure.png").exists()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["label=10"], "label=10: must be 0 to 9"),
        (["labels=[0,-1]"], "labels=[0,-1]: must be 0 to 9"),
        (["labels=[]"], "labels=[]: must be a list, as in [0,1,2]"),
        (["labels=7"], "labels=7: must be a list, as in [0,1,2]"),
        (["labels=[a]"], "labels=[a]: must be 0 to 9"),
        (["labels=[true]"], "labels=[true]: must be 0 to 9"),
        (["label=x"], "label=x: must be a whole number"),
        (["label=7", "labels=[1]"], "label=7: labels is set, too; use one of them"),
    ],
)
def test_wrong_labels(conditional: Path, tmp_path: Path, typed: list[str], message: str) -> None:
    done = command("sample", f"checkpoint={conditional}", *typed, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"{message}\n")
    assert not any(tmp_path.iterdir())


def test_a_model_without_classes(run: Path, tmp_path: Path) -> None:
    done = command("sample", f"checkpoint={run}", "label=7", cwd=tmp_path)
    assert done.stderr == "label=7: must be null, as the model was trained without classes\n"


def test_export_takes_labels(conditional: Path, tmp_path: Path) -> None:
    assert command("export", f"checkpoint={conditional}", cwd=tmp_path).returncode == 0
    session = onnxruntime.InferenceSession(tmp_path / "generator.onnx")
    gan = gan_lightning.load(conditional)
    for n in (1, 7):
        z, labels = gan.prior(n), torch.arange(n)
        (images,) = session.run(["images"], {"latents": z.numpy(), "labels": labels.numpy()})
        assert torch.allclose(torch.from_numpy(images), sampling.generate(gan, z, labels), atol=1e-5)


def test_more_labels_than_classes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^model.num_classes=5: must be at least 10 for this data set"):
        helpers.run(tmp_path / "run", "model.num_classes=5")
    with pytest.raises(InputError, match=r"^model.generator.num_classes=1: must be 0 \(unconditional\) or at least 2"):
        helpers.run(tmp_path / "run", "model.num_classes=1")

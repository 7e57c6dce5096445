"""Trained models: those of this package, folders that export writes, and the Hugging Face hub."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import gan_lightning
from gan_lightning.checkpoints.pretrained import CARD, CONFIG, WEIGHTS, save_pretrained
from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.data.images import normalize
from gan_lightning.errors import InputError
from gan_lightning.metrics.distances import FID
from gan_lightning.metrics.features import ClassifierFeatures
from gan_lightning.run import build, config
from gan_lightning.run.checkpoint import Checkpoint
from gan_lightning.sampling import repeat_labels, sample
from tests.helpers import command

SHIPPED = sorted(config.MODELS.iterdir())
FID_OF_1000 = {"mnist": 0.8, "mnist_conditional": 0.5, "mnist_resnet": 0.8}  # measured: 0.60, 0.34 and 0.60


def images_of(path: Path | str, number: int = 20) -> torch.Tensor:
    return torch.cat(list(sample(gan_lightning.load(path), number, seed=0)))


@pytest.fixture(scope="module")
def features() -> ClassifierFeatures:
    return build.part(config.compose("train"), "features")


@pytest.fixture(scope="module")
def model(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run's model."""
    folder = tmp_path_factory.mktemp("models") / "digits"
    save_pretrained(Checkpoint(run).content, folder, run=run)
    return folder


@pytest.fixture
def altered(model: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a copy of the model with other values in its ``config.json``."""

    def write(**changes: Any) -> Path:
        content = json.loads((model / CONFIG).read_text())
        (tmp_path / WEIGHTS).write_bytes((model / WEIGHTS).read_bytes())
        (tmp_path / CONFIG).write_text(json.dumps(content | changes))
        return tmp_path

    return write


@pytest.mark.parametrize("name", FID_OF_1000)
def test_the_models_of_this_package_draw_digits(
    name: str, features: ClassifierFeatures, mnist: ImageDataModule
) -> None:
    gan = gan_lightning.load(name)
    images = torch.cat(list(sample(gan, 1000, seed=1)))
    probabilities = features.classifier.head(features(images)).softmax(1)
    assert probabilities.amax(1).mean() > 0.9
    assert probabilities.argmax(1).bincount(minlength=10).min() > 50
    if gan.num_classes:
        assert (probabilities.argmax(1) == repeat_labels(gan, 1000)).float().mean() > 0.97
    fid = FID(features=features)
    fid.update(normalize(mnist.test.images[:1000]), real=True)
    fid.update(images, real=False)
    assert float(fid.compute()) < FID_OF_1000[name]
    real = gan.discriminator(normalize(mnist.test.images[:100]), mnist.test.labels[:100])
    noise = gan.discriminator(torch.rand(100, 1, 28, 28) * 2 - 1, mnist.test.labels[:100])
    assert real.mean() > noise.mean()


def test_the_ring_of_this_package_has_all_modes() -> None:
    metric = build.metrics(config.compose("train", ["experiment=ring"]))["modes"]
    metric.update(images_of("ring", 1000), real=False)
    values = metric.compute()
    assert values["modes"] == 8
    assert values["good_samples"] > 0.99


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_the_files_of_a_model(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {CARD, CONFIG, WEIGHTS}
    assert (folder / WEIGHTS).stat().st_size < 5e6
    metadata = yaml.safe_load((folder / CARD).read_text().split("---\n")[1])
    assert (metadata["license"], metadata["library_name"]) == ("mit", "gan-lightning")
    assert f'gan_lightning.load("{folder.name}")' in (folder / CARD).read_text()
    found = Checkpoint(folder)
    strings = [value for _, value in config.flatten(found.config) if isinstance(value, str)]
    assert not [value for value in strings if value.startswith(("/", "~"))]
    assert found.data_root() == config.project_folder("data")


def test_a_model_has_its_runs_images(run: Path, model: Path) -> None:
    assert torch.equal(images_of(model), images_of(run))
    trained, loaded = gan_lightning.load(run), gan_lightning.load(model)
    x = torch.rand(5, 1, 28, 28)
    assert torch.equal(trained.discriminator(x), loaded.discriminator(x))
    assert loaded.ema is None
    assert loaded.latent_scale == trained.latent_scale != 1
    card = (model / CARD).read_text()
    assert "python -m gan_lightning.train trainer.accelerator=cpu trainer.max_steps=12" in card
    assert "| Parzen log-likelihood (nats) |" in card


def test_a_model_in_half_precision(run: Path, tmp_path: Path) -> None:
    save_pretrained(Checkpoint(run).content, tmp_path / "half", dtype=torch.float16)
    weights = load_file(tmp_path / "half" / WEIGHTS)
    assert weights["generator.layers.0.weight"].dtype == torch.float16
    assert "gan_lightning.train" not in (tmp_path / "half" / CARD).read_text()  # its run is unknown
    assert gan_lightning.load(tmp_path / "half").generator.layers[0].weight.dtype == torch.float32
    torch.testing.assert_close(images_of(tmp_path / "half"), images_of(run), atol=0.01, rtol=0)


def test_the_commands_take_a_model(run: Path, tmp_path: Path) -> None:
    exported = command("export", f"checkpoint={run}", "out=digits", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    again = command("export", f"checkpoint={run}", "out=digits", cwd=tmp_path)
    assert again.stderr == "out=digits: exists; without a file extension it must be a new or empty folder\n"
    for name in ("digits", "mnist_conditional"):
        done = command("sample", f"checkpoint={name}", f"out={name}.png", "hydra.job.chdir=true", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / f"{name}.png").exists()
    slow = [f"metrics.{name}=null" for name in ("parzen", "fid", "kid", "precision_recall", "modes")]
    typed = ["num_images=100", *slow, "metrics.nearest_training=null"]
    done = command("evaluate", "checkpoint=digits", *typed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    refused = command("train", "checkpoint=mnist", cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.endswith("models/mnist: holds no optimizer states, so it cannot be resumed\n")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("mnits", "checkpoint=mnits: no such file or model; did you mean mnist? The models are mnist, mnist_con"),
        (
            "photos",
            "checkpoint=photos: no such file or model; the models are mnist, mnist_conditional, mnist_resnet, ring",
        ),
        ("last.ckpt", "checkpoint=last.ckpt: no such file"),
        ("here/typo", "checkpoint=here/typo: no such file"),
        ("a/b/c", "checkpoint=a/b/c: no such file"),
    ],
)
def test_unknown_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, line: str) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError) as error:
        gan_lightning.load(name)
    assert str(error.value).startswith(line)
    assert "hub" not in str(error.value)


def test_a_path_wins_over_a_name(model: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not torch.equal(images_of("mnist"), images_of(run))
    (tmp_path / "mnist").symlink_to(model)
    assert torch.equal(images_of("mnist"), images_of(run))


def test_a_model_of_the_hub(model: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def snapshot_download(name: str, *, allow_patterns: list[str]) -> str:
        calls.append((name, allow_patterns))
        if name != "user/digits":
            raise OSError("no network,\nor no such repository")
        return str(model)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    assert torch.equal(images_of("user/digits"), images_of(run))
    assert calls == [("user/digits", [WEIGHTS, CONFIG])]
    line = "checkpoint=user/other: no such file, and not available from the Hugging Face hub: no network, or no "
    with pytest.raises(InputError, match=f"^{line}"):
        gan_lightning.load("user/other")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"^checkpoint=user/digits: no such file; .*'gan-lightning\[hub\]'$"):
        gan_lightning.load("user/digits")


def test_a_class_that_a_model_may_not_name(model: Path, altered: Callable[..., Path], tmp_path: Path) -> None:
    content = json.loads((model / CONFIG).read_text())["config"]
    folder = altered(config=content | {"loss": {"_target_": "os.mkdir", "path": str(tmp_path / "mark")}})
    with pytest.raises(InputError, match=rf"^checkpoint={folder}: loss._target_=os.mkdir: not allowed in a checkpoint"):
        gan_lightning.load(folder)
    assert not (tmp_path / "mark").exists()
    assert gan_lightning.load(altered(config=content)).num_classes == 0


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"format_version": 99}, "written by a later version"),
        ({"format_version": None}, "not a checkpoint"),
        ({"config": [1]}, "not a checkpoint"),
        ({"step": "many"}, "not a checkpoint"),
        ({"sha256": "0"}, "model.safetensors is incomplete or damaged"),
    ],
)
def test_configs_of_another_kind(altered: Callable[..., Path], changes: dict[str, Any], line: str) -> None:
    folder = altered(**changes)
    with pytest.raises(InputError, match=f"^checkpoint={folder}: {line}"):
        gan_lightning.load(folder)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        (WEIGHTS, None, "model.safetensors: No such file"),
        (WEIGHTS, 1000, "model.safetensors is incomplete or damaged"),
        (CONFIG, 1000, "not a checkpoint .*its config.json is of another kind"),
        (CONFIG, b"[1, 2]", "not a checkpoint .*its config.json is of another kind"),
        (CONFIG, b'{"model_type": "bert"}', "not a checkpoint .*its config.json is of another kind"),
    ],
)
def test_damaged_files(altered: Callable[..., Path], name: str, content: bytes | int | None, line: str) -> None:
    folder = altered()
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(whole[:content] if isinstance(content, int) else content)
    with pytest.raises(InputError, match=f"^checkpoint={folder}: {line}"):
        gan_lightning.load(folder)


def test_weights_of_another_kind(altered: Callable[..., Path]) -> None:
    folder = altered(sha256=hashlib.sha256(b"PK").hexdigest())
    (folder / WEIGHTS).write_bytes(b"PK")
    with pytest.raises(InputError, match=f"^checkpoint={folder}: not a checkpoint .*its {WEIGHTS} is of another"):
        gan_lightning.load(folder)


def test_a_model_without_its_pictures(altered: Callable[..., Path], model: Path) -> None:
    content = json.loads((model / CONFIG).read_text())["config"]
    assert content["data"]["root"] is None
    content["data"]["dataset"] = {"_target_": "gan_lightning.data.folder.Folder", "_partial_": True}
    with pytest.raises(InputError, match=r"data.root=null: the model comes without its data; add data.root=FOLDER$"):
        Checkpoint(altered(config=content)).data()

import copy
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf
from pytorch_lightning import Callback, Trainer

import gan_lightning
from gan_lightning.checkpoints.compatibility import KEYS, TARGETS, upgrade
from gan_lightning.gan import GAN
from gan_lightning.run import build
from gan_lightning.run.checkpoint import FORMAT_VERSION, Checkpoint
from gan_lightning.sampling import sample
from tests.helpers import ROOT, command, last, resume, same, scalars

# Version 0.1.0 wrote it, as best-20.ckpt:
#   python -m gan_lightning.train trainer.accelerator=cpu trainer.precision=32-true trainer.max_steps=40
#     trainer.val_check_interval=20 trainer.log_every_n_steps=10 num_images=100 monitor=validation/accuracy
#     data.batch_size=16 model.latent_dim=4 model.generator.widths=[4,2] model.discriminator.widths=[2]
#     callbacks.scoring.num_images=100 callbacks.scoring.num_real=100 callbacks.sample_grid.every_n_steps=10
# Afterwards the paths of the run and of the data were made relative, and the file was written again by torch.save.
CHECKPOINT = Path(__file__).parent / "0.1.0.ckpt"
# images[:, 0, 14, ::7] of 3 samples with seed 1 by version 0.1.0: of the checkpoint, and after the run's last step
AT_20 = [
    [-0.549550, 0.038682, 0.387691, 0.298508],
    [-0.575005, -0.006717, 0.397115, 0.286231],
    [-0.541782, 0.027037, 0.403029, 0.276035],
]
AT_40 = [
    [-0.520950, 0.018007, 0.354277, 0.272360],
    [-0.558378, -0.026854, 0.374823, 0.265760],
    [-0.507816, 0.008782, 0.371953, 0.245979],
]
# What its evaluation of 100 samples gave, with the overrides of ONLY_PARZEN
METRICS = {
    "loss_discriminator": 0.125114,
    "loss_generator": 2.246662,
    "parzen_ll": -596.8157,
    "val_parzen_ll": -596.3160,
}
ONLY_PARZEN = [
    "metrics.parzen.num_validation=100",
    *(f"metrics.{name}=null" for name in ("fid", "kid", "precision_recall", "modes", "nearest_training")),
]


def pixels(gan: GAN) -> torch.Tensor:
    return next(sample(gan, 3, seed=1))[:, 0, 14, ::7]


def written() -> dict[str, Any]:
    return torch.load(CHECKPOINT, weights_only=True)


class SaveStart(Callback):
    """Save what a run starts from."""

    def on_train_start(self, trainer: Trainer, pl_module: GAN) -> None:
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "start.ckpt")


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the checkpoint's run, resumed until its end."""
    run = tmp_path_factory.mktemp("runs") / "0.1.0"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").write_bytes(CHECKPOINT.read_bytes())
    return resume(
        run,
        f"data.root={ROOT / 'data'}",
        f"+callbacks.save_start._target_={__name__}.SaveStart",
        "callbacks.paper_figures=null",
        *ONLY_PARZEN,
    )


def test_the_images_are_those_of_the_version_that_wrote_it() -> None:
    assert torch.allclose(pixels(gan_lightning.load(CHECKPOINT)), torch.tensor(AT_20), rtol=0, atol=1e-5)


def test_sample(tmp_path: Path) -> None:
    done = command("sample", f"checkpoint={CHECKPOINT}", "num_images=4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "samples.png").exists()


def test_evaluate(tmp_path: Path) -> None:
    typed = (
        f"checkpoint={CHECKPOINT}",
        f"data.root={ROOT / 'data'}",
        "num_images=100",
        "device=cpu",
        "out=metrics.json",
    )
    done = command("evaluate", *typed, *ONLY_PARZEN, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {name: metrics[name] for name in METRICS} == pytest.approx(METRICS, rel=1e-4)


def test_a_resumed_run_starts_from_the_file(resumed: Path) -> None:
    start, file = torch.load(resumed / "start.ckpt", weights_only=True), written()
    assert start["global_step"] == 20
    assert same(start["optimizer_states"], file["optimizer_states"])
    for scheduler, former in zip(start["lr_schedulers"], file["lr_schedulers"], strict=True):
        assert (scheduler["last_epoch"], scheduler["_last_lr"]) == (20, former["_last_lr"])
    former = {name.replace("average.", "ema."): tensor for name, tensor in file["state_dict"].items()}
    assert any(name.startswith("ema.") for name in former)
    assert same(dict(start["state_dict"]), former)
    seconds = [content["callbacks"]["Timer"]["time_elapsed"]["train"] for content in (start, file)]
    assert seconds[0] >= seconds[1]
    assert start["callbacks"].keys() == {*upgrade(file)["callbacks"], "StopOnNan", "Norms", "Diagnoses"}
    assert start["ImageDataModule"]["step"] == file["ImageDataModule"]["step"]


def test_a_resumed_run_ends_as_with_the_version_that_began_it(resumed: Path) -> None:
    assert last(resumed)["global_step"] == 40
    assert last(resumed)["hyper_parameters"]["format_version"] == FORMAT_VERSION
    assert torch.allclose(pixels(gan_lightning.load(resumed, trust=["tests"])), torch.tensor(AT_40), rtol=0, atol=1e-3)
    logged = scalars(resumed)
    assert [step for step, _ in logged["validation/accuracy"]] == [40]
    assert [step for step, _ in logged["loss/generator"]] == [30, 40]
    assert (resumed / "metrics.json").exists()


def test_progress_counts_one_batch_per_step() -> None:
    before, after = (content["loops"]["fit_loop"] for content in (written(), upgrade(written())))
    assert before["epoch_loop.batch_progress"]["total"]["ready"] == 2  # of 10 steps each
    counts = {"ready": 20, "started": 20, "processed": 20, "completed": 20}
    assert after["epoch_loop.batch_progress"] == {"total": counts, "current": counts, "is_last_batch": False}
    assert after["epoch_loop.manual_optimization.optim_step_progress"]["total"]["completed"] == 20


def test_progress_of_a_run_that_was_stopped_within_a_batch() -> None:
    content = written()
    progress = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    progress["total"] |= {"ready": 8, "completed": 7}
    progress["current"] |= {"ready": 3, "completed": 2}
    after = upgrade(content | {"global_step": 74})["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert (after["total"]["ready"], after["total"]["completed"]) == (74, 73)
    assert after["current"]["ready"] - after["current"]["completed"] == 1


def test_hyperparameters_keep_their_values() -> None:
    config = Checkpoint(CHECKPOINT).config
    adam = {"_target_": "torch.optim.Adam", "_partial_": True, "betas": [0.0, 0.99], "fused": True}
    assert (config["seed"], config["k"], config["latent_scale"]) == (0, 2, 1.15)
    assert config["algorithm"] == {"_target_": "gan_lightning.gan.GAN"}
    assert config["model"]["prior"] == {"_target_": "gan_lightning.priors.Normal", "dim": 4}
    assert config["model"]["generator"]["widths"] == [4, 2]
    assert config["loss"] == {"_target_": "gan_lightning.losses.NonSaturating"}
    assert config["penalty"] == {"_target_": "gan_lightning.penalties.R1", "gamma": 1.0, "interval": 4}
    assert config["ema"] == {
        "_target_": "gan_lightning.ema.EMA",
        "_partial_": True,
        "half_life": 3200,
        "rampup_ratio": 0.2,
    }
    assert config["optimizer"] == {
        "scheduler": {"_target_": "gan_lightning.schedules.linear_decay", "_partial_": True, "flat": 0.3},
        "lr": 0.001,
        "betas": [0.0, 0.99],
        "generator": adam | {"lr": 0.002},
        "discriminator": adam | {"lr": 0.001},
    }
    assert (config["data"]["batch_size"], config["trainer"]["max_steps"]) == (16, 40)


def test_metrics_and_callbacks_are_those_of_the_run(resumed: Path) -> None:
    today = OmegaConf.create(Checkpoint(CHECKPOINT).config)
    assert build.part(today, "features").num_classes == 10
    assert list(build.metrics(today)) == ["parzen", "fid", "kid", "precision_recall", "modes", "nearest_training"]
    config = last(resumed)["hyper_parameters"]["config"]
    assert (config["monitor"], config["monitor_mode"]) == ("validation/accuracy", "max")
    assert config["callbacks"]["sample_grid"]["every_n_steps"] == 10
    assert config["callbacks"]["validation_metrics"]["num_images"] == 100
    assert not {"average", "gan", "reference"} & config.keys()


def test_every_name_leads_from_what_is_gone_to_what_there_is() -> None:
    for former, target in TARGETS.items():
        get_object(target)
        with pytest.raises(Exception, match="Error"):
            get_object(former)
    for former, names in KEYS.items():
        if "." in former:
            arguments = inspect.signature(get_object(TARGETS.get(former, former))).parameters
            assert {name for name in names.values() if name} <= arguments.keys()
            assert former in TARGETS or not names.keys() & arguments.keys()


def test_without_an_average() -> None:
    content = written()
    content["hyper_parameters"]["config"]["average"] = None
    content["state_dict"] = {name: w for name, w in content["state_dict"].items() if not name.startswith("average.")}
    config = upgrade(content)["hyper_parameters"]["config"]
    assert config["ema"] is None
    assert config["latent_scale"] == 1
    gan = build.gan(OmegaConf.create(config))
    gan.load_state_dict(upgrade(content)["state_dict"])


def test_a_class_of_the_users_own_stays_as_it_is() -> None:
    content = written()
    own = {"_target_": "own.Part", "every_n_steps": 3, "ramp": 1, "latent_scale": 2, "metrics": None}
    config = content["hyper_parameters"]["config"]
    config |= {"average": own, "penalty": own, "callbacks": config["callbacks"] | {"own": own}}
    found = upgrade(content)["hyper_parameters"]["config"]
    assert found["ema"] == found["penalty"] == found["callbacks"]["own"] == own
    assert found["latent_scale"] == 1


def test_a_monitor_that_was_never_measured_becomes_todays_default() -> None:
    content = written()
    content["hyper_parameters"]["config"] |= {"monitor": "parzen_ll", "monitor_mode": "max"}
    assert upgrade(content)["hyper_parameters"]["config"]["monitor"] == "parzen_ll"
    content["hyper_parameters"]["config"]["metrics"]["parzen"] = None
    assert upgrade(content)["hyper_parameters"]["config"]["monitor"] is None
    assert upgrade(content)["hyper_parameters"]["config"]["monitor_mode"] is None


def test_the_figures_moments_are_snapshots() -> None:
    content = written()
    content["callbacks"]["Figure1"] = {"moments": [{"step": 1}]}
    assert upgrade(content)["callbacks"]["Figure1"] == {"snapshots": [{"step": 1}]}


def test_a_file_of_weights_only(tmp_path: Path) -> None:
    content = written()
    for part in ("loops", "callbacks", "optimizer_states", "lr_schedulers"):
        del content[part]
    torch.save(content, tmp_path / "weights.ckpt")
    assert torch.equal(pixels(gan_lightning.load(tmp_path / "weights.ckpt")), pixels(gan_lightning.load(CHECKPOINT)))


def test_the_content_given_is_left_alone(run: Path) -> None:
    content = written()
    upgrade(given := copy.deepcopy(content))
    assert same(given, content)
    assert same(upgrade(today := last(run)), today)


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 99, "x", None, -1, 0, 1, 2.5, True, [2]])
def test_other_formats(run: Path, tmp_path: Path, version: Any) -> None:
    content = last(run)
    content["hyper_parameters"]["format_version"] = version
    if version in (FORMAT_VERSION + 1, 99):
        del content["hyper_parameters"]["config"]  # whatever it will look like
        message = "written by a later version of gan-lightning; upgrade with pip install -U gan-lightning"
    else:
        message = "not a checkpoint written by gan_lightning.train"
    torch.save(content, tmp_path / "other.ckpt")
    done = command("sample", f"checkpoint={tmp_path}/other.ckpt", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"checkpoint={tmp_path}/other.ckpt: {message}\n"


def test_a_folder_has_the_size_and_channels_it_had() -> None:
    dataset = {"_target_": "gan_lightning.data.folder.Folder", "_partial_": True, "size": 28, "channels": 1}
    content = {"hyper_parameters": {"format_version": 2, "config": {"data": {"root": "images", "dataset": dataset}}}}
    data = upgrade(content)["hyper_parameters"]["config"]["data"]
    assert data["dataset"].keys() == {"_target_", "_partial_"}
    assert (data["root"], data["image_size"], data["channels"]) == ("images", 28, 1)
    assert dataset["size"] == 28  # the content given is left alone

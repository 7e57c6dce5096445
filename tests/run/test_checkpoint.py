import random
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

import gan_lightning
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.run import config, schema
from gan_lightning.run.checkpoint import FORMAT_VERSION, Checkpoint
from gan_lightning.run.fill_in import fill_in
from gan_lightning.sampling import sample
from tests.helpers import SMALL, command, last, resume, same


def test_load_needs_only_the_file(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes((run / "checkpoints" / "last.ckpt").read_bytes())
    monkeypatch.chdir(tmp_path)
    for gan in (gan_lightning.load(copy), gan_lightning.load("copy.ckpt"), GAN.load_from_checkpoint(copy)):
        assert same(dict(gan.state_dict()), dict(last(run)["state_dict"]))
        assert not gan.training
        assert next(sample(gan, 3, seed=0)).shape == (3, 1, 28, 28)
    assert Checkpoint(copy).data().train.images.shape == (50_000, 1, 28, 28)


def test_a_runs_folder_stands_for_its_newest_checkpoint(run: Path, tmp_path: Path) -> None:
    for path in (run, run / "checkpoints"):
        assert Checkpoint(path).path == run / "checkpoints" / "last.ckpt"
    (tmp_path / "checkpoints").mkdir()
    for path in (tmp_path, tmp_path / "checkpoints"):
        with pytest.raises(InputError, match=f"checkpoint={path}: .*no checkpoints/last.ckpt"):
            Checkpoint(path)


def test_holds_the_version_and_the_resolved_config_as_plain_data(run: Path) -> None:
    saved = last(run)["hyper_parameters"]
    assert saved["format_version"] == FORMAT_VERSION
    assert set(saved) == {"format_version", "config"}
    assert type(saved["config"]) is dict
    assert saved["config"]["model"]["generator"]["latent_dim"] == 100
    assert saved["config"]["optimizer"]["generator"]["lr"] == 0.002
    assert saved["config"]["trainer"]["precision"] != "auto"
    assert "${" not in str(saved["config"])
    assert OmegaConf.load(run / ".hydra" / "overrides.yaml") == [*SMALL, "optimizer/scheduler=linear"]


@pytest.mark.parametrize("content", [b"", b"text", random.Random(0).randbytes(1000)])
def test_foreign_files(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match="no such file"):
        gan_lightning.load(tmp_path / "foreign")
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(InputError, match=f"checkpoint={tmp_path}/foreign: not a checkpoint"):
        gan_lightning.load(tmp_path / "foreign")


@pytest.mark.parametrize("value", [[1], {"state_dict": {}}, torch.nn.Linear(1, 1)])
def test_foreign_objects(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "foreign")
    with pytest.raises(InputError, match="not a checkpoint"):
        gan_lightning.load(tmp_path / "foreign")


@pytest.mark.parametrize("part", ["state_dict", "global_step", "hyper_parameters"])
def test_a_checkpoint_that_lacks_a_part(run: Path, tmp_path: Path, part: str) -> None:
    content = last(run)
    del content[part]
    torch.save(content, tmp_path / "less.ckpt")
    with pytest.raises(InputError, match=r"less.ckpt: not a checkpoint"):
        Checkpoint(tmp_path / "less.ckpt")


def test_weights_that_do_not_fit(run: Path, tmp_path: Path) -> None:
    content = last(run)
    content["state_dict"]["generator.extra"] = content["state_dict"].pop("generator.layers.0.weight")
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match=r"^checkpoint=\S+other.ckpt: .*generator\.layers\.0\.weight"):
        gan_lightning.load(tmp_path / "other.ckpt")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that torch.load has read."""
    names: list[str] = []
    load = torch.load

    def counting(file: Any, *arguments: Any, **options: Any) -> Any:
        names.append(Path(file).name if isinstance(file, str | Path) else Path(file.name).name)
        return load(file, *arguments, **options)

    monkeypatch.setattr(torch, "load", counting)
    return names


def test_a_resume_reads_the_file_once(run: Path, tmp_path: Path, reads: list[str]) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    copy = tmp_path / "run" / "checkpoints" / "last.ckpt"
    copy.write_bytes((run / "checkpoints" / "last.ckpt").read_bytes())
    resume(tmp_path / "run", "trainer.max_steps=14")
    assert reads.count("last.ckpt") == 1
    assert last(tmp_path / "run")["global_step"] == 14


def test_an_evaluation_reads_the_file_once(run: Path, tmp_path: Path, reads: list[str]) -> None:
    slow = [f"metrics.{name}=null" for name in ("parzen", "fid", "kid", "precision_recall", "modes")]
    typed = (f"checkpoint={run}", "num_images=10", *slow, "metrics.nearest_training=null")
    assert command("evaluate", *typed, cwd=tmp_path).returncode == 0
    assert reads == ["last.ckpt"]


def composed(run: Path, *typed: str) -> DictConfig:
    return schema.validate("train", config.compose("train", [f"checkpoint={run}", *typed]))


def resumed(run: Path, *typed: str) -> DictConfig:
    return Checkpoint(run).resume_config(composed(run, *typed), list(typed))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=1", "seed=1: .*has 0"),
        ("model.latent_dim=50", "model.latent_dim=50: .*has 100"),
        ("optimizer.lr=2e-4", "optimizer.lr=0.0002: .*has 0.001"),
        ("optimizer.generator.fused=false", "optimizer.generator.fused=false: .*has true"),
        ("loss=minimax", "loss._target_=.*Minimax: .*has .*NonSaturating"),
        ("k=2", "k=2: .*has 1"),
        ("algorithm=simultaneous", "algorithm._target_=.*SimultaneousGAN: .*has .*gan.GAN"),
        ("penalty=none", "penalty.*=null: .*has .*R1"),
        ("ema=none", "ema.*=null: .*has .*EMA"),
        ("optimizer/scheduler=constant", "optimizer.scheduler.*=null: .*has .*linear"),
        ("model.discriminator.widths=[16,8]", r"model.discriminator.widths\[1\]=8: .*has null"),
        ("model.generator.widths=[16]", r"model.generator.widths\[1\]=null: .*has 16"),
        ("data.batch_size=32", "data.batch_size=32: .*has 64"),
        ("trainer.devices=3", "trainer.devices=3 and trainer.num_nodes=1: .* 64 images, .* 3 devices cannot share"),
        ("trainer.devices=[0,1,2]", r"trainer.devices=\[0,1,2\] and .* 3 devices cannot share"),
        ("trainer.devices=none", "trainer.devices=none: must be a number"),
        ("trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches=2: .*has 1"),
        ("trainer.max_steps=11", "trainer.max_steps=11: must be at least 12, or -1"),
        ("experiment=long", "experiment=long: .*keeps its experiment"),
        ("~callbacks.scalars", "~callbacks.scalars: .*callbacks.scalars=null"),
    ],
)
def test_what_a_resume_cannot_change(run: Path, override: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        resumed(run, override)


def test_what_a_resume_can_change(run: Path, tmp_path: Path) -> None:
    typed = ["logger=csv", f"data.root={tmp_path}", "data.num_workers=0", "callbacks.sample_grid=null", "monitor=fid"]
    found = resumed(run, *typed, "metrics=default", "trainer.log_every_n_steps=3", "trainer.max_epochs=2")
    assert (found.data.root, found.data.num_workers, found.data.batch_size) == (str(tmp_path), 0, 64)
    assert found.logger._target_.endswith("CSVLogger")
    assert found.callbacks.sample_grid is None
    assert found.callbacks.validation_metrics.num_images == 100  # as in the run
    assert found.metrics.fid is not None
    assert (found.monitor, found.trainer.log_every_n_steps, found.trainer.max_epochs) == ("fid", 3, 2)
    assert found.trainer.accelerator == "cpu"


@pytest.mark.parametrize(
    ("typed", "batch_size"),
    [
        (["trainer.devices=2"], 32),
        (["trainer.devices=2", "trainer.num_nodes=4"], 8),
        (["trainer.devices='0,1'"], 32),
        (["trainer.devices=2", "data.batch_size=32"], 32),
        (["trainer.devices=auto", "trainer.accelerator=cpu"], 64),
    ],
)
def test_devices_share_a_resumed_runs_minibatches(run: Path, typed: list[str], batch_size: int) -> None:
    found = fill_in(resumed(run, *typed))
    assert found.data.batch_size == batch_size
    assert found.trainer.strategy == ("ddp_find_unused_parameters_true" if batch_size < 64 else found.trainer.strategy)


def test_devices_that_share_a_resumed_run_again(run: Path) -> None:
    checkpoint = Checkpoint(run)  # as it would be of two nodes with two devices
    checkpoint.config["data"]["batch_size"] = 16
    checkpoint.config["trainer"] |= {"devices": 2, "num_nodes": 2, "strategy": "ddp_find_unused_parameters_true"}
    checkpoint.config["trainer"]["sync_batchnorm"] = False
    typed = ["trainer.devices=1", "trainer.num_nodes=1"]
    found = fill_in(checkpoint.resume_config(composed(run, *typed), typed))
    assert (found.data.batch_size, found.trainer.strategy, found.trainer.sync_batchnorm) == (64, "auto", False)
    with pytest.raises(InputError, match=r"^data.batch_size=16: .*has 64"):
        checkpoint.resume_config(composed(run, *typed, "data.batch_size=16"), [*typed, "data.batch_size=16"])
    checkpoint.content["ImageDataModule"] = {"step": 12, "world_size": 4}  # as version 0.5.0 wrote it
    assert checkpoint.resume_config(composed(run, *typed), typed).data.batch_size == 64
    del checkpoint.content["ImageDataModule"]  # with a data module of one's own
    with pytest.raises(InputError, match=r"^trainer.devices=1 and trainer.num_nodes=1: must be 4 devices in all"):
        checkpoint.resume_config(composed(run, *typed), typed)


def test_a_resume_adds_what_an_earlier_version_did_not_write(run: Path) -> None:
    checkpoint = Checkpoint(run)
    del checkpoint.config["cpu_tuning"]
    del checkpoint.config["trainer"]["benchmark"]
    del checkpoint.config["callbacks"]["final_evaluation"]
    del checkpoint.config["callbacks"]["validation_metrics"]["skip"]
    found = checkpoint.resume_config(composed(run), [])
    assert found.cpu_tuning is True
    assert found.trainer.benchmark is None
    assert found.callbacks.final_evaluation._target_.endswith("FinalEvaluation")
    assert found.callbacks.validation_metrics.skip == ["kid", "nearest_training", "inception_fid"]
    assert found.callbacks.validation_metrics.num_images == 100  # as in the run


def test_a_resume_adds_nothing_else(run: Path) -> None:
    checkpoint = Checkpoint(run)
    logger = OmegaConf.load(run / ".hydra" / "config.yaml").logger
    expected = {**checkpoint.config, "checkpoint": str(checkpoint.path), "logger": logger}
    assert expected == checkpoint.resume_config(composed(run), [])
    for part in ("penalty", "ema", "features"):
        checkpoint.config[part] = None
    for part in ("kid", "nearest_training"):
        del checkpoint.config["metrics"][part]
    del checkpoint.config["optimizer"]["betas"]
    del checkpoint.config["data"]["in_memory"]
    checkpoint.config["latent_scale"] = 1.0
    checkpoint.config["callbacks"] |= {"sample_grid": None, "paper_figures": {"_target_": "own.Figures"}}
    expected = {**checkpoint.config, "checkpoint": str(checkpoint.path), "logger": logger}
    assert expected == checkpoint.resume_config(composed(run), [])


def test_a_new_length_replaces_the_former_one(run: Path) -> None:
    assert resumed(run, "trainer.max_steps=20").trainer.max_steps == 20
    assert resumed(run, "trainer.max_steps=20").trainer.max_epochs is None
    assert fill_in(resumed(run, "trainer.max_epochs=2"), ["trainer.max_epochs=2"]).trainer.max_steps == -1

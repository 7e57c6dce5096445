"""Checkpoints from strangers: nothing in them is executed, written or contacted."""

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf

import gan_lightning
from gan_lightning.checkpoints import file as checkpoint_file
from gan_lightning.checkpoints.trust import check_config, is_allowed, targets
from gan_lightning.errors import InputError
from gan_lightning.run.checkpoint import Checkpoint
from gan_lightning.run.config import CONF, compose, flatten
from gan_lightning.run.training import log_outputs
from tests.helpers import ROOT, call, command, last


def altered(run: Path, folder: Path, key: str, value: Any) -> Path:
    """Write a run's checkpoint with another value in its config."""
    content = last(run)
    config = OmegaConf.create(content["hyper_parameters"]["config"])
    OmegaConf.update(config, key, "VALUE", merge=False, force_add=True)
    *parents, name = key.split(".")
    node = plain = OmegaConf.to_container(config)
    for parent in parents:
        node = node[parent]
    node[name] = value
    content["hyper_parameters"]["config"] = plain
    path = folder / "stranger.ckpt"
    checkpoint_file.write(content, path)
    return path


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("mark",)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        yield server


MALICIOUS = [  # key, class, arguments
    ("penalty", "torch.load", {"f": "pickled", "weights_only": False}),
    ("penalty", "numpy.savetxt", {"fname": "mark", "X": [1]}),
    ("penalty", "urllib.request.urlopen", {"url": "http://127.0.0.1:PORT"}),
    ("loss", "os.mkdir", {"path": "mark"}),
    ("loss", "builtins.exec", {"object": "open('mark', 'w')"}),
    ("model.prior", "subprocess.Popen", {"args": ["touch", "mark"]}),
    ("model.generator", "stranger.Network", {}),  # a module beside the file
    ("model.generator", "torch.hub.load", {"repo_or_dir": ".", "model": "x", "source": "local"}),
    ("model.discriminator", "torch.nn.Sequential", {"layers": [{"_target_": "os.mkdir", "path": "mark"}]}),
    ("algorithm", "gan_lightning.run.sweep.run", {"command": ["touch", "mark"]}),
    ("algorithm", "gan_lightning.run.sweep.subprocess.Popen", {"args": ["touch", "mark"]}),
    ("penalty", "gan_lightning.callbacks.final_evaluation.save_metrics", {"metrics": {}, "path": "mark"}),
    ("penalty", "gan_lightning.losses.nn.Module", {}),
    ("penalty", "torch.nn.Linear", {"in_features": 1, "out_features": 1}),
    ("ema", "gan_lightning.metrics.classifier.save_weights", {"path": "mark"}),
    ("optimizer.generator", "torch.optim.swa_utils.torch.load", {"f": "pickled"}),
    ("data.dataset", "torchvision.datasets.LSUN", {"root": "."}),
    ("data.dataset", "torchvision.datasets.folder.pil_loader", {"path": "pickled"}),
    ("metrics.fid", "torchmetrics.image.fid.FrechetInceptionDistance", {}),
    ("logger", "pytorch_lightning.loggers.MLFlowLogger", {"tracking_uri": "http://127.0.0.1:PORT"}),
    ("logger", "gan_lightning.loggers.TrackioLogger", {"project": "mark"}),
    ("logger", "stranger.Network", {}),
    ("callbacks.extra", "pytorch_lightning.callbacks.ModelCheckpoint", {"dirpath": "mark"}),
    ("unknown", "os.mkdir", {"path": "mark"}),
    ("data.dataset.transform", "torchvision.datasets.FashionMNIST", {"root": "mark", "download": True}),
    ("model.generator", "torch.nn.LSTM", {"input_size": 1, "hidden_size": 1, "num_layers": 10**8}),
    ("model.generator", "torch.nn.Transformer", {"num_encoder_layers": 10**8}),
]


@pytest.mark.parametrize("part", MALICIOUS, ids=[f"{key}-{target}" for key, target, _ in MALICIOUS])
def test_a_class_that_a_checkpoint_may_not_name(
    run: Path, tmp_path: Path, listening: socket.socket, part: tuple[str, str, dict[str, Any]]
) -> None:
    number = str(listening.getsockname()[1])
    key, target, arguments = part
    given = {name: v.replace("PORT", number) if isinstance(v, str) else v for name, v in arguments.items()}
    path = altered(run, tmp_path, key, {"_target_": target, **given})
    (tmp_path / "stranger.py").write_text("import os; os.mkdir('mark')\nclass Network: pass")
    torch.save(Evil(), tmp_path / "pickled")
    before = {entry for entry in tmp_path.rglob("*") if "outputs" not in entry.parts}
    for name in ("train",) if key == "logger" else ("sample", "train") if "torch" in target else ("sample",):
        done = command(name, f"checkpoint={path}", cwd=tmp_path)
        assert done.returncode == 1
        line = f"checkpoint={path}: {key}"
        assert done.stderr.startswith(line), done.stderr
        assert done.stderr.count("\n") == 1
        assert "not allowed in a checkpoint" in done.stderr
    assert {entry for entry in tmp_path.rglob("*") if "outputs" not in entry.parts} == before
    assert "stranger" not in sys.modules
    with pytest.raises(BlockingIOError):
        listening.accept()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("name", "${oc.env:HOME}", "interpolations"),
        ("data.root", "${oc.env:HOME}", "interpolations"),
        ("model.latent_dim", torch.ones(3), "must be a number or a string"),
        ("model.generator._args_", [1], "not allowed in a checkpoint"),
        ("penalty._recursive_", True, "not allowed in a checkpoint"),
        ("model.a b", 1, "not allowed in a checkpoint"),
        ("data.dataset.transform", {"_target_": "torchvision.transforms.Resize", "size": 10**5}, "not allowed"),
        ("name", "x" * 20_000, "long strings"),
        ("k", list(range(20_000)), "too large"),
        ("callbacks.scalars.folder", "~/elsewhere", "outside of the run's folder"),
    ],
)
def test_values_that_a_checkpoint_may_not_hold(run: Path, tmp_path: Path, key: str, value: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        gan_lightning.load(altered(run, tmp_path, key, value))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("logger.name", "/tmp/elsewhere", "outside of the run's folder"),
        ("logger.version", "../../elsewhere", "outside of the run's folder"),
        ("logger.name", "${oc.env:HOME}", "interpolations"),
    ],
)
def test_values_that_the_logger_of_a_resumed_run_may_not_hold(
    run: Path, tmp_path: Path, key: str, value: Any, words: str
) -> None:
    checkpoint = Checkpoint(altered(run, tmp_path, key, value))
    with pytest.raises(InputError, match=words):
        checkpoint.resume_config(compose("train"), [])
    assert checkpoint.resume_config(compose("train"), ["logger=tensorboard"]).logger.name == "tensorboard"


def test_a_logger_matters_only_to_a_run_that_is_resumed_with_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "stranger.py").write_text("import os; os.mkdir('mark')")
    path = altered(run, tmp_path, "logger", {"_target_": "stranger.Logger", "name": "${oc.env:HOME}"})
    assert gan_lightning.load(path).k == 1
    for name, *arguments in (
        ("sample", "num_images=4", "out=samples.png"),
        ("evaluate", "num_images=10"),
        ("export", "out=model"),
    ):
        done = command(name, f"checkpoint={path}", *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "stranger" not in (tmp_path / "model" / "config.json").read_text()
    resumed = Checkpoint(path).resume_config(compose("train", ["logger=csv"]), ["logger=csv"])
    assert resumed.logger._target_ == "pytorch_lightning.loggers.CSVLogger"
    assert "stranger" not in sys.modules
    assert not [*tmp_path.rglob("mark")]


def test_of_the_printed_commands_only_the_one_that_resumes_trusts_a_logger(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    with caplog.at_level("INFO"):
        log_outputs(compose("train", ["logger=trackio"]), tmp_path, SimpleNamespace(global_step=3))
    trusting = {line[:12].rstrip(): " trust=gan_lightning.loggers " in line for line in caplog.messages}
    assert [what for what in trusting if trusting[what]] == ["train longer"]
    assert {"more samples", "a page", "evaluate"} < trusting.keys()


@pytest.mark.parametrize("name", ["prior._target_", "generator.layers[0]", "a.b", "", "_x", "é"])
def test_a_key_cannot_pass_for_another_one(run: Path, tmp_path: Path, name: str) -> None:
    """A class would be hidden behind an allowed one, in a dictionary of all keys."""
    content = last(run)
    config = content["hyper_parameters"]["config"]
    prior = {"_target_": "gan_lightning.run.sweep.run", "command": ["touch", str(tmp_path / "mark")]}
    config["model"] = {name: "gan_lightning.priors.Normal"} | config["model"] | {"prior": prior}
    checkpoint_file.write(content, tmp_path / "stranger.ckpt")
    with pytest.raises(InputError, match="not allowed in a checkpoint"):
        gan_lightning.load(tmp_path / "stranger.ckpt")
    assert not (tmp_path / "mark").exists()


def test_links_out_of_a_run_are_not_followed(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    for name in ("samples.png", "checkpoints/.last.ckpt.unfinished", ".hydra/config.yaml"):
        (tmp_path / "victim").write_text("precious")
        link = tmp_path / "run" / name
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / "victim")
        done = command("train", f"checkpoint={tmp_path}/run", "trainer.max_steps=16", cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr == f"{link}: a link out of the run's folder, to which the run would write; remove it\n"
        assert (tmp_path / "victim").read_text() == "precious"
        link.unlink()


@pytest.mark.parametrize(
    "change",
    [
        {"callbacks": {"SaveCheckpoints": 3}},
        {"callbacks": {"StopOnNan": 3}},
        {"ImageDataModule": {}},
        {"loops": {}},
        {"lr_schedulers": [{"base_lrs": ["a"]}, {}]},
        {"optimizer_states": []},
        {"pytorch-lightning_version": "garbage"},
    ],
)
def test_states_of_another_shape(run: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "cut" / "checkpoints").mkdir(parents=True)
    path = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    checkpoint_file.write(last(run) | change, path)
    done = command("train", "checkpoint=cut", "trainer.max_steps=16", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "checkpoint=" in done.stderr


SLOW = [pytest.param(value, marks=pytest.mark.slow) for value in ("x", -1, True, {}, [], float("inf"))]


@pytest.mark.parametrize("value", [None, *SLOW])
def test_values_of_another_type(run: Path, tmp_path: Path, value: Any) -> None:
    """One key after the other has a value that makes no sense: every command ends in one line, or does not need it."""
    config = last(run)["hyper_parameters"]["config"]
    parents = {"model", "optimizer", "loss", "penalty", "ema", "algorithm", "data", "trainer"}
    for key in sorted(
        parents | {key.partition("[")[0] for key, _ in flatten(config) if key.partition(".")[0] in parents}
    ):
        content = last(run)
        node = content["hyper_parameters"]["config"]
        *names, end = key.split(".")
        for name in names:
            node = node[name]
        node[end] = value
        torch.save(content, tmp_path / "altered.ckpt")
        with suppress(InputError):
            gan_lightning.load(tmp_path / "altered.ckpt")


def test_nesting_without_end(run: Path, tmp_path: Path) -> None:
    nested: list[Any] = []
    for _ in range(100):
        nested = [nested]
    with pytest.raises(InputError, match="too large"):
        gan_lightning.load(altered(run, tmp_path, "k", nested))


def test_every_part_in_conf_is_allowed_but_loggers_that_may_send() -> None:
    checked = 0
    for path in CONF.rglob("*.yaml"):
        if {"hydra", "search"} & {*path.parts}:
            continue
        text, group = path.read_text(), list(path.relative_to(CONF).parts[:-1])
        node = yaml.safe_load(text) or {}
        node.pop("hydra", None)
        if "@package _global_" not in text:
            for name in reversed(group):
                node = {name: node}
        for key, name in targets(node):
            may_send = path.parent.name == "logger" and path.stem in ("wandb", "mlflow", "trackio")
            assert is_allowed(key, name) != may_send, f"{path}: {key}={name}"
            checked += 1
    assert checked > 40


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("model.discriminator", "torch.nn.Identity"),
        ("optimizer.generator", "torch.optim.RMSprop"),
        ("optimizer.scheduler", "torch.optim.lr_scheduler.ConstantLR"),
        ("data.dataset", "torchvision.datasets.CIFAR10"),
        ("callbacks.lr", "pytorch_lightning.callbacks.LearningRateMonitor"),
    ],
)
def test_parts_of_torch_are_allowed(key: str, target: str) -> None:
    node: Any = {"_target_": target}
    for name in reversed(key.split(".")):
        node = {name: node}
    assert check_config(node) == []


OWN = """
from gan_lightning.losses import NonSaturating

class Own(NonSaturating):
    pass
"""


@pytest.fixture
def own(run: Path, tmp_path: Path) -> Path:
    """A checkpoint that names a user's own class, and that class."""
    (tmp_path / "mypackage.py").write_text(OWN)
    return altered(run, tmp_path, "loss", {"_target_": "mypackage.Own"})


def sample(own: Path, *arguments: str) -> Any:
    path = os.pathsep.join([str(own.parent), str(ROOT)])
    typed = (f"checkpoint={own}", "num_images=4", *arguments)
    return call("-m", "gan_lightning.sample", *typed, cwd=own.parent, PYTHONPATH=path)


def test_a_users_own_class_must_be_named(own: Path) -> None:
    refused = sample(own)
    assert refused.returncode == 1
    assert f"checkpoint={own}: loss._target_=mypackage.Own: not allowed in a checkpoint" in refused.stderr
    assert "add trust=mypackage" in refused.stderr
    for trust in ("trust=mypackage", "trust=[other,mypackage.Own]"):
        done = sample(own, trust)
        assert done.returncode == 0, done.stderr
        assert done.stderr == "Trusting mypackage.Own, which the checkpoint uses\n"
    assert sample(own, "trust=myp").returncode == 1


def test_classes_that_a_folder_of_configs_names_are_trusted(own: Path) -> None:
    (own.parent / "mine" / "loss").mkdir(parents=True)
    (own.parent / "mine" / "loss" / "own.yaml").write_text("_target_: mypackage.Own\n")
    assert sample(own, "--config-dir=mine").returncode == 0


def test_trust_in_python(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(own.parent)
    with pytest.raises(InputError, match=r"mypackage\.Own"):
        gan_lightning.load(own)
    assert gan_lightning.load(own, trust="mypackage").k == 1
    gan = gan_lightning.load(own, trust=["mypackage"])
    assert type(gan.loss).__name__ == "Own"
    assert type(type(gan).load_from_checkpoint(own, trust=["mypackage"]).loss).__name__ == "Own"


@pytest.mark.parametrize("trust", ["trust=1", "trust='a b'", "trust=[a,../b]"])
def test_names_that_are_none(run: Path, tmp_path: Path, trust: str) -> None:
    done = command("sample", f"checkpoint={run}", trust, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("trust=")


def test_trust_without_a_checkpoint(tmp_path: Path) -> None:
    done = command("train", "trust=mypackage", cwd=tmp_path)
    assert done.stderr == "trust=mypackage: only a checkpoint needs it; add checkpoint=PATH\n"


def test_data_are_not_written_where_only_the_file_says(run: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for root in (tmp_path / "there", tmp_path / "absent"):
        path = altered(run, tmp_path, "data", {**last(run)["hyper_parameters"]["config"]["data"], "root": str(root)})
        done = command("evaluate", f"checkpoint={path}", "num_images=10", cwd=tmp_path)
        if root.exists():
            assert done.returncode == 1
            assert "there" in done.stderr
        assert not (tmp_path / "absent").exists()
        assert not list((tmp_path / "there").iterdir())


def test_a_resumed_run_deletes_only_its_own_files(run: Path, tmp_path: Path) -> None:
    """The state of the callback that removes the former best checkpoint is part of the file."""
    victim = tmp_path / "victim.ckpt"
    victim.touch()
    content = last(run)
    content["callbacks"]["SaveCheckpoints"] = {"best": {"file": "../../victim.ckpt", "value": 1e9}}
    folder = tmp_path / "cut" / "checkpoints"
    folder.mkdir(parents=True)
    checkpoint_file.write(content, folder / "last.ckpt")
    done = command("train", f"checkpoint={tmp_path}/cut", "trainer.max_steps=16", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert victim.exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.generator.widths", [10**6, 10**6]),
        ("model.discriminator.widths", [10**9]),
        ("model.prior.dim", 10**12),
        ("model.image_shape", [1, 10**6, 10**6]),
        ("algorithm.num_fixed_latents", 10**12),
    ],
)
def test_sizes_beyond_the_memory(run: Path, tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(
        InputError, match=r"^checkpoint=\S+: (model|algorithm)\.\S+: (needs about \d\S* \wB of memory|must be .* below)"
    ):
        gan_lightning.load(altered(run, tmp_path, key, value))

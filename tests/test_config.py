"""What is refused, and that it is told in one line."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gan_lightning import config, rules
from gan_lightning.errors import InputError
from tests.helpers import ROOT, SMALL, call


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optimizer.lr=-1", "optimizer.lr=-1: allowed: at least 0"),
        ("optimizer.lr=fast", "optimizer.lr=fast: allowed: a number, such as 0.001"),
        ("optimizer.lr=null", "optimizer.lr=null: allowed: a number, such as 0.001"),
        ("optimizer.lr=nan", "optimizer.lr=nan: allowed: at least 0"),
        ("optimizer.generator.lr=-1", "optimizer.generator.lr=-1: allowed: at least 0"),
        ("optimizer.betas=[0.5,2]", "optimizer.betas[1]=2: allowed: at least 0 and below 1"),
        ("data.batch_size=0", "data.batch_size=0: allowed: at least 2"),
        ("data.batch_size=6.4", "data.batch_size=6.4: allowed: a whole number, such as 96"),
        ("data.batch_size=true", "data.batch_size=True: allowed: a whole number, such as 96"),
        ("model.latent_dim=0", "model.latent_dim=0: allowed: at least 1"),
        ("k=0", "k=0: allowed: at least 1"),
        ("seed=-1", "seed=-1: allowed: at least 0 and at most 4294967295"),
        ("trainer.accelerator=warp", "trainer.accelerator=warp: allowed: auto, cpu, gpu, cuda, mps"),
        ("trainer.precision=16-mixed", "trainer.precision=16-mixed: allowed: auto, 32-true, bf16-mixed"),
        ("trainer.strategy=fsdp", "trainer.strategy=fsdp: allowed: auto, ddp"),
        (
            "trainer.devices=true",
            "trainer.devices=True: allowed: how many, at least 1; auto or -1: all; or a list of them",
        ),
        (
            "trainer.devices=0",
            "trainer.devices=0: allowed: how many, at least 1; auto or -1: all; or a list of them",
        ),
        ("trainer.sync_batchnorm=1", "trainer.sync_batchnorm=1: allowed: true or false"),
        ("trainer.gradient_clip_algorithm=x", "trainer.gradient_clip_algorithm=x: allowed: norm, value"),
        ("monitor_mode=x", "monitor_mode=x: allowed: min, max"),
        ("k=null", "k=null: allowed: a whole number, such as 2"),
        ("data.root=null", f"data.root=null: allowed: a value, such as {config.CHECKOUT / 'data'}"),
        ("k=[1,2]", "k[0]=1: allowed: one value, such as 2"),
        ("optimizer.betas=0.5", "optimizer.betas=0.5: allowed: a list, such as [0.0, 0.99]"),
        ("optimizer.betas=[0.5]", "optimizer.betas[0]=0.5: allowed: two numbers, such as [0.0, 0.99]"),
        ("optimizer.betas=[0.5,0.9,0.9]", "optimizer.betas[0]=0.5: allowed: two numbers, such as [0.0, 0.99]"),
        (
            "model.generator.widths=[]",
            "model.generator.widths=[]: allowed: a list, such as [128, 256, 512, 1024]",
        ),
        ("trainer.max_steps=0", "trainer.max_steps=0: allowed: at least 1, or -1: no end"),
        ("trainer.max_epochs=0", "trainer.max_epochs=0: allowed: at least 1, or -1: no end"),
        ("trainer.max_epochs=many", "trainer.max_epochs=many: allowed: at least 1, or -1: no end"),
        ("trainer.limit_train_batches=0", "trainer.limit_train_batches=0: allowed: above 0"),
        ("trainer.num_sanity_val_steps=2", "trainer.num_sanity_val_steps=2: allowed: 0: there is no rehearsal"),
        (
            "trainer.use_distributed_sampler=true",
            "trainer.use_distributed_sampler=True: allowed: false: the data module gives each rank its part",
        ),
        (
            "trainer.overfit_batches=1",
            "trainer.overfit_batches=1: allowed: 0; a larger data.val_size trains on fewer images",
        ),
        (
            "trainer.check_val_every_n_epoch=1",
            "trainer.check_val_every_n_epoch=1: allowed: null: trainer.val_check_interval counts steps",
        ),
        ("trainer.max_epochs=1.5", "trainer.max_epochs=1.5: allowed: at least 1, or -1: no end"),
        ("data.root=2024", "data.root=2024: allowed: text"),
        (
            "monitor=metrics/fid",
            "monitor=metrics/fid: allowed: a figure's plain name, such as fid, or validation/loss_generator",
        ),
        ("trainer.min_steps=abc", "trainer.min_steps=abc: allowed: a whole number of at least 1"),
        ("trainer.min_epochs=-5", "trainer.min_epochs=-5: allowed: a whole number of at least 1"),
        ("trainer.limit_val_batches=x", "trainer.limit_val_batches=x: allowed: how many, or a share from 0.0 to 1.0"),
        ("trainer.max_time=2s", "trainer.max_time=2s: allowed: DD:HH:MM:SS, more than none"),
        ("trainer.max_time=00:00:00:00", "trainer.max_time=00:00:00:00: allowed: DD:HH:MM:SS, more than none"),
        (
            "+trainer.logger=false",
            "+trainer.logger: no such key; the groups callbacks and logger and hydra.run.dir set it",
        ),
        ("+optimizer.weight_decay=1", "+optimizer.weight_decay=1: no such key; allowed: scheduler, "),
        ("+model.dropout=0.5", "+model.dropout=0.5: no such key; allowed: latent_dim, "),
        ("+callbacks.x.a=5", "+callbacks.x: it needs a class, as in +callbacks.x._target_=MODULE.CLASS"),
        ("+metrics.x=5", "+metrics.x: it needs a class, as in +metrics.x._target_=MODULE.CLASS"),
        ("callbacks.scoring.skip=[foo]", "callbacks.scoring.skip: no metric is named foo; allowed: parzen, fid, "),
        ("model.generator.batch_norm_eps=0", "model.generator.batch_norm_eps=0: allowed: above 0"),
        ("data.device=warp", "data.device=warp: allowed: auto, cpu"),
        ("matmul_precision=low", "matmul_precision=low: allowed: highest, high, medium"),
        ("gan.k=5", "gan.k=5: it repeats k; change that"),
        ("+gan.lr=5", "+gan.lr=5: no such key; allowed: _target_, "),
        ("model.latent.dim=50", "model.latent.dim=50: it repeats model.latent_dim; change that"),
        (
            "model.generator.image_shape=[1,8,8]",
            "model.generator.image_shape=[1, 8, 8]: it repeats model.image_shape; change that",
        ),
        ("checkpoint=absent.ckpt", "checkpoint=absent.ckpt: no such file"),
        ("+colour=red", "+colour=red: no such key; allowed: seed, k, compile, cuda_graphs, "),
        ("~logger", "~logger: nothing can be left out; allowed: logger=VALUE"),
        ("metrics.fid=1", "metrics.fid=1: allowed: keys below it, such as metrics.fid."),
        ("model.generator.negative_slope=-5", "model.generator.negative_slope=-5: allowed: at least 0"),
        ("metrics.nearest_training.every=0", "metrics.nearest_training.every=0: allowed: at least 1"),
    ],
)
def test_impossible_values(override: str, line: str) -> None:
    with pytest.raises(InputError) as refused:
        rules.check(config.compose("train", [override]), config.compose("train"))
    assert str(refused.value).startswith(line) if line.endswith((", ", ".")) else str(refused.value) == line


@pytest.mark.parametrize("devices", ["auto", "-1", "2", "[0]", "[0,1]"])
def test_ways_to_name_devices(devices: str) -> None:
    rules.check(config.compose("train", [f"trainer.devices={devices}"]), config.compose("train"))


def test_what_callbacks_may_have() -> None:
    mine = "+callbacks.mine={_target_: mine.Callback, size: 0.5, gamma: {end: 2}}"
    for override in ("callbacks.scoring.skip=[]", mine):
        rules.check(config.compose("train", [override]), config.compose("train"))


def test_no_epochs_are_no_length() -> None:
    composed = config.compose("train", ["trainer.max_epochs=null"])
    config.choose_length(composed, ["trainer.max_epochs=null"])
    assert composed.trainer.max_steps == config.compose("train").trainer.max_steps


def test_a_schedule_needs_an_end() -> None:
    for typed in (["trainer.max_epochs=1"], ["trainer.max_steps=1"]):
        composed = config.compose("train", typed)
        config.choose_length(composed, typed)
        rules.check(composed, config.compose("train"))
    with pytest.raises(InputError, match=r"trainer.max_steps=-1: allowed: at least 1: the learning"):
        rules.check(config.compose("train", ["trainer.max_steps=-1"]), config.compose("train"))
    typed = ["trainer.max_epochs=-1"]
    composed = config.compose("train", typed)
    config.choose_length(composed, typed)
    with pytest.raises(InputError, match=r"trainer.max_epochs=-1: allowed: at least 1: the learning"):
        rules.check(composed, config.compose("train"))


def test_synchronised_batch_norm_needs_a_gpu() -> None:
    typed = ["trainer.sync_batchnorm=true", "trainer.accelerator=cpu"]
    with pytest.raises(
        InputError, match="sync_batchnorm=true: needs a CUDA GPU, and this run has none; allowed: false"
    ):
        rules.check(config.compose("train", typed), config.compose("train"))


def test_cuda_graphs_need_what_they_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*typed: str) -> str:
        with pytest.raises(InputError) as error:
            rules.check(config.compose("train", ["cuda_graphs=true", *typed]), config.compose("train"))
        return str(error.value)

    assert refused("trainer.accelerator=cpu") == (
        "cuda_graphs=true: needs a CUDA GPU, and this run has none; allowed: false"
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "needs trainer.devices=1" in refused("trainer.devices=2")
    assert "waits for the device" in refused("trainer.detect_anomaly=true")


@given(st.floats(0, 10), st.integers(2, 10**6), st.integers(0, 2**32 - 1))
def test_possible_values_pass(lr: float, batch_size: int, seed: int) -> None:
    for key, value, default in (
        ("optimizer.lr", lr, 2e-4),
        ("data.batch_size", batch_size, 64),
        ("seed", seed, 0),
    ):
        assert rules.wrong_type(value, default) is None
        assert rules.breaks_rule(key, value) is None


def test_rules_are_not_for_the_arguments_of_other_classes() -> None:
    ours = ["+model.discriminator.momentum=5"]
    with pytest.raises(InputError, match=r"discriminator\.momentum=5: allowed: at least 0 and at most 1"):
        rules.check(config.compose("train", ours), config.compose("train"))
    own = ["model.discriminator._target_=mine.Net", *ours, "model.discriminator.widths=[0]"]
    rules.check(config.compose("train", own), config.compose("train"))
    rules.check(config.compose("train", ["+model.discriminator.channels=8"]), config.compose("train"))
    folder = ["data=folder", "data.root=x", "data.dataset.size=8"]
    given, chosen = (config.compose("train", [*folder, f"data.dataset.channels={n}"]) for n in (8, 3))
    with pytest.raises(InputError, match=r"dataset\.channels=8: allowed: 1"):
        rules.check(given, chosen)


@pytest.mark.parametrize("how", ["--config-dir={}", "hydra.searchpath=[file://{}]"])
def test_configs_from_another_folder(tmp_path: Path, how: str) -> None:
    """In a run, in the command that goes on with it, and in a sweep."""
    (tmp_path / "mine" / "loss").mkdir(parents=True)
    (tmp_path / "mine" / "loss" / "own.yaml").write_text("_target_: gan_lightning.losses.NonSaturating\n")
    typed = [how.format(tmp_path / "mine"), *SMALL, "optimizer/scheduler=constant", "loss=own"]
    run = call("-m", "gan_lightning.train", *typed, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    (go_on,) = re.findall(r"^go on +python (.*)$", run.stdout, re.MULTILINE)
    more = call(*shlex.split(go_on), cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    sweep = call("-m", "gan_lightning.train", "-m", *typed, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert sweep.returncode == 0, sweep.stderr


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("trainer.max_step=1", "trainer.max_step=1: no such key; trainer has max_steps"),
        ("callbacks.mine._target_=a.B", "callbacks.mine: no such key; callbacks has progress_bar, "),
        ("colour=red", "colour=red: no such key; the top has seed, k, compile, cuda_graphs"),
        ("model=unheard", "model=unheard: no such choice; allowed: goodfellow2014, mlp, mlp_1d"),
        (
            "optimizer/scheduler=x",
            "optimizer/scheduler=x: no such choice; allowed: constant, cosine, exponential, linear",
        ),
        ("trainer.devices=[1", "trainer.devices=[1: not an override; write key=value or group=choice"),
        ("optimizer.lr", "optimizer.lr: not an override; write key=value or group=choice"),
        ("seed=1,2", "seed=1,2: several values; add -m to sweep over them"),
        ("optimizer.lr=-1", "optimizer.lr=-1: allowed: at least 0"),
        ("loss=null", "loss=null: no such choice; allowed: minimax, non_saturating, relativistic"),
        ("callbacks=1", "callbacks=1: no such choice; allowed: default"),
        ("metrics=inception", "metrics.inception_fid.features.weights=???: a value is needed, as in metrics."),
        ("checkpoint=absent.ckpt", "checkpoint=absent.ckpt: no such file"),
    ],
)
def test_a_mistake_ends_in_one_line_and_leaves_nothing(argument: str, line: str, tmp_path: Path) -> None:
    """In a process that fails if torch is imported: the answer must not wait for it."""
    program = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.argv = ['train', {argument!r}]\n"
        "from gan_lightning.train import main; main()"
    )
    if argument.startswith("checkpoint"):
        program = program.replace("sys.modules['torch'] = None", "pass")
    done = call("-c", program, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_help_lists_groups_and_needs_no_torch(tmp_path: Path) -> None:
    program = "import sys; sys.modules['torch'] = None; sys.argv = ['train', '--help']\n"
    done = call("-c", program + "from gan_lightning.train import main; main()", cwd=tmp_path)
    assert done.returncode == 0
    for word in (
        "loss: minimax, non_saturating, relativistic",
        "data: fashion_mnist, folder, gaussian, kmnist, mnist",
        "optimizer.lr=5e-4,1e-3",
    ):
        assert word in done.stdout


def test_a_missing_accelerator_is_told(tmp_path: Path) -> None:
    import torch

    if torch.accelerator.is_available():
        pytest.skip("there is one")
    done = call("-m", "gan_lightning.train", "trainer.accelerator=gpu", cwd=tmp_path)
    assert done.stderr == "trainer.accelerator=gpu: this machine has none; allowed: auto, cpu\n"


def test_a_traceback_can_be_had(tmp_path: Path) -> None:
    done = call("-m", "gan_lightning.train", "optimizer.lr=-1", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "InputError: optimizer.lr=-1" in done.stderr


def test_a_failing_part_is_told_in_one_line(tmp_path: Path) -> None:
    done = call("-m", "gan_lightning.train", "+trainer.warp=9", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "unexpected keyword argument 'warp'" in done.stderr


def test_installed_from_a_wheel(tmp_path: Path) -> None:
    """The wheel holds conf/ and works in any folder."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    slow = ("kid", "precision_recall", "nearest_training")  # FID stays: the wheel holds the classifier's weights
    small = [
        "trainer.max_steps=2",
        "num_images=200",
        "callbacks.scoring=null",
        *(f"metrics.{metric}=null" for metric in slow),
        f"data.root={ROOT / 'data'}",
        "trainer.accelerator=cpu",
    ]
    done = call("-m", "gan_lightning.train", *small, cwd=elsewhere, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 0, done.stderr
    assert list(elsewhere.glob("outputs/default/*/checkpoints/last.ckpt"))
    where = call(
        "-c",
        "import gan_lightning; print(gan_lightning.__file__)",
        cwd=elsewhere,
        PYTHONPATH=str(tmp_path / "site"),
    )
    assert where.stdout.startswith(str(tmp_path / "site"))


@pytest.mark.parametrize("path", ["a/b-1.ckpt", "/sp ace/a=b é.ckpt", "it's.ckpt", "[1],x.ckpt", "$HOME.ckpt"])
def test_an_argument_is_typed_so_that_it_is_read_as_it_is(path: str) -> None:
    (typed,) = shlex.split(config.as_argument("checkpoint", path))
    assert config.compose("sample", [typed]).checkpoint == path
    assert config.as_argument("checkpoint", "a/b-1.ckpt") == "checkpoint=a/b-1.ckpt"

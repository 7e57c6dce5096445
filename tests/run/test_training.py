"""A run's folder, its resumption, and the options of the trainer."""

import json
import re
import signal
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from torch import Tensor
from torch._dynamo.exc import BackendCompilerFailed
from torchmetrics import Metric

from gan_lightning.errors import InputError
from gan_lightning.losses import NonSaturating
from gan_lightning.run import config, schema
from gan_lightning.run.fill_in import fill_in
from gan_lightning.run.training import train
from tests import helpers
from tests.helpers import SMALL, assert_same_run, call, command, grids, last, metrics, resume, same, scalars


def test_run_folder(run: Path) -> None:
    assert {p.name for p in run.iterdir()} >= {
        ".hydra",
        "checkpoints",
        "tensorboard",
        "samples.png",
        "metrics.json",
    }
    assert OmegaConf.load(run / ".hydra" / "config.yaml").trainer.max_steps == 12
    best = [p.name for p in (run / "checkpoints").iterdir() if p.name.startswith("best")]
    assert re.fullmatch(r"best-(5|10)\.ckpt", *best)
    with Image.open(run / "samples.png") as picture:
        assert picture.size == (484, 484)


def test_metrics_json(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["images_seen"] == 12 * 64
    assert metrics["seed"] == 0
    assert metrics["images_per_second"] == pytest.approx(12 * 64 / metrics["train_seconds"])
    for name in ("parzen_ll", "parzen_ll_se", "parzen_sigma", "loss_discriminator", "loss_generator", "accuracy"):
        assert isinstance(metrics[name], float)
        assert isinstance(metrics[f"val_{name}"], float)
    assert "fid" not in metrics  # it is not measured


def test_everything_in_tensorboard_shares_the_step_axis(run: Path) -> None:
    logged = scalars(run)
    every_2 = [2, 4, 6, 8, 10, 12]
    for tag in ("loss/discriminator", "loss/generator", "probability/real", "probability/fake"):
        assert [step for step, _ in logged[tag]] == every_2
    assert logged["images_seen"] == [(step, step * 64) for step in every_2]
    assert all(value > 0 for _, value in logged["throughput/images_per_second"])
    for tag in ("metrics/parzen_ll", "validation/accuracy", "validation/loss_generator"):
        assert [step for step, _ in logged[tag]] == [5, 10]
    assert [step for step, _ in grids(run)] == [0, 5, 10, 12]
    assert all(0 < value < 1 for _, value in logged["probability/real"])


def test_hparams_tab_has_the_final_metrics(run: Path) -> None:
    events = EventAccumulator(str(run / "tensorboard" / "hparams"))
    events.Reload()
    contents = events.summary_metadata
    start = plugin_data_pb2.HParamsPluginData.FromString(
        contents["_hparams_/session_start_info"].plugin_data.content
    ).session_start_info
    assert start.hparams["optimizer.lr"].number_value == 0.001
    assert start.hparams["k"].number_value == 1
    metrics = json.loads((run / "metrics.json").read_text())
    assert start.hparams["experiment"].string_value == "default"
    assert start.hparams["model"].string_value == "mlp"
    assert start.hparams["optimizer.scheduler"].string_value == "linear_decay"  # overridden
    assert "model.generator.negative_slope" not in start.hparams
    (final,) = events.Scalars("test/parzen_ll")
    assert (final.step, final.value) == (12, pytest.approx(metrics["parzen_ll"]))


def test_tensorboard_begins_with_the_losses(run: Path) -> None:
    logged = scalars(run)
    assert list(dict.fromkeys(tag.partition("/")[0] for tag in sorted(logged)))[:2] == ["images_seen", "loss"]
    assert all(len(values) > 1 for values in logged.values())  # no single dots


def test_checkpoints_share_the_step_axis_for_k_3(tmp_path: Path) -> None:
    run = helpers.run(tmp_path / "run", "k=3", "data.batch_size=20")
    assert last(run)["global_step"] == 12
    assert list((run / "checkpoints").glob("best-*.ckpt"))
    assert scalars(run)["images_seen"][-1] == (12, 12 * 3 * 20)
    assert json.loads((run / "metrics.json").read_text())["images_seen"] == 12 * 3 * 20


@pytest.mark.parametrize("step", [2, 4, 7, 11])  # in the middle of an epoch, before a validation, at the end
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_gives_the_same_bits(
    run: Path, tmp_path: Path, step: int, signum: int, caplog: pytest.LogCaptureFixture
) -> None:
    cut = tmp_path / "cut"
    killer = f"+callbacks.signal={{_target_: tests.helpers.SignalAt, step: {step}, signum: {int(signum)}}}"
    caplog.set_level("INFO")
    former = signal.getsignal(signum)
    if step < 11:
        with pytest.raises(SystemExit) as stopped:
            helpers.run(cut, "optimizer/scheduler=linear", killer)
        assert stopped.value.code == 128 + signum
        assert last(cut)["global_step"] == step + 1
        assert f"checkpoint={cut}/checkpoints/last.ckpt" in caplog.text
        resume(cut, "+callbacks.signal=null")
    else:  # the run ends there
        helpers.run(cut, "optimizer/scheduler=linear", killer)
    assert signal.getsignal(signum) is former
    assert_same_run(run, cut)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_without_checkpoints_says_so(tmp_path: Path, signum: int) -> None:
    killer = f"+callbacks.signal={{_target_: tests.helpers.SignalAt, step: 4, signum: {int(signum)}}}"
    done = command("train", *SMALL, "callbacks.checkpoints=null", killer, cwd=tmp_path)
    assert done.returncode == 128 + signum
    assert re.search(rf"Stopped by {signal.Signals(signum).name} at step [45], without a checkpoint", done.stdout)


@pytest.mark.parametrize(
    "streamed",
    [
        (),
        (
            "data.in_memory=false",
            "data.num_workers=1",
            "data.val_size=500",
            "trainer.max_epochs=3",
            "trainer.max_steps=-1",
        ),
    ],
)
def test_several_epochs_interrupted_twice_give_the_same_bits(tmp_path: Path, streamed: tuple[str, ...]) -> None:
    epochs = ("trainer.limit_train_batches=4", "data.batch_size=32", *streamed)
    whole = helpers.run(tmp_path / "whole", *epochs)
    cut = tmp_path / "cut"
    for step, go in ((4, helpers.run), (8, resume)):
        killer = f"+callbacks.signal{step}={{_target_: tests.helpers.SignalAt, step: {step}, signum: 15}}"
        with pytest.raises(SystemExit):
            go(cut, *(epochs if go is helpers.run else ()), killer)
    resume(cut, "+callbacks.signal4=null", "+callbacks.signal8=null")
    assert_same_run(whole, cut)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_final_evaluation_stops_at_once(
    tmp_path: Path, signum: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The run is resumed with the evaluation, and says that nothing else is left."""
    caplog.set_level("INFO")
    killer = f"+metrics.signal={{_target_: {__name__}.SignalInMetric, signum: {int(signum)}}}"
    skipped = "callbacks.validation_metrics.skip=[signal]"
    with pytest.raises(SystemExit) as stopped:
        helpers.run(tmp_path / "run", killer, skipped)
    assert stopped.value.code == 128 + signum
    assert f"Stopped by {signal.Signals(signum).name} at step 12. To resume:" in caplog.text
    assert "Nothing is left" not in caplog.text
    assert not (tmp_path / "run" / "metrics.json").exists()
    resume(tmp_path / "run", "+metrics.signal=null")
    assert "Nothing is left to train at step 12 of 12" in caplog.text
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["images_seen"] == 12 * 64


class SignalInMetric(Metric):
    """A metric that sends this process a signal."""

    def __init__(self, *, signum: int) -> None:
        super().__init__()
        self.signum = signum

    def update(self, images: Tensor, real: bool) -> None:
        signal.raise_signal(self.signum)

    def compute(self) -> Tensor:
        return torch.zeros(())


def test_a_run_without_its_data_leaves_no_files(tmp_path: Path) -> None:
    done = command("train", *SMALL, "data=folder", "data.root=absent", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch("data.root=absent: no such folder\n", done.stderr), done.stderr
    assert not list(tmp_path.iterdir())


def test_a_killed_run_is_resumed_from_its_last_validation(run: Path, tmp_path: Path) -> None:
    """After SIGKILL the newest checkpoint is that of step 10, and there are events beyond it."""
    killer = f"+callbacks.signal={{_target_: tests.helpers.SignalAt, step: 11, signum: {int(signal.SIGKILL)}}}"
    typed = [*SMALL, "optimizer/scheduler=linear", "hydra.run.dir=cut", killer]
    assert call("-m", "gan_lightning.train", *typed, cwd=tmp_path).returncode == -signal.SIGKILL
    cut = tmp_path / "cut"
    assert last(cut)["global_step"] == 10
    assert not (cut / "metrics.json").exists()
    resume(cut, "+callbacks.signal=null")
    assert_same_run(run, cut)


def test_a_longer_run_is_a_continuation(tmp_path: Path) -> None:
    constant = "optimizer/scheduler=constant"
    longer = helpers.run(tmp_path / "longer", constant, "trainer.max_steps=17")
    short = helpers.run(tmp_path / "short", constant)
    with pytest.raises(InputError, match=r"^trainer.max_steps=11: must be at least 12"):
        resume(short, "trainer.max_steps=11")
    resume(short, "trainer.max_steps=17")
    assert same(last(longer)["state_dict"], last(short)["state_dict"])
    assert same(last(longer)["optimizer_states"], last(short)["optimizer_states"])
    assert [step for step, _ in scalars(short)["loss/generator"]] == [2, 4, 6, 8, 10, 12, 14, 16]


def test_rates_that_fall_over_the_whole_run_get_a_new_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run = helpers.run(tmp_path / "run")  # the default recipe
    assert [s["_last_lr"] for s in last(run)["lr_schedulers"]] == [[0.0], [0.0]]
    assert "learning rates now" not in caplog.text
    resume(run, "trainer.max_steps=24", "+callbacks.rates={_target_: tests.run.test_training.Rates}")
    assert "The learning rates now fall until step 24 instead of step 12" in caplog.text
    assert last(run)["global_step"] == 24
    assert json.loads((run / "metrics.json").read_text())["images_seen"] == 24 * 64
    shares = [rate / 0.002 for rate in Rates.of_the_generator]
    # constant for 0.3 of the 24 steps, then falling to 0; Lightning restores the last rate until the first step is over
    assert shares[1:] == pytest.approx([(24 - step) / (0.7 * 24) for step in range(13, 24)])
    assert [s["_last_lr"] for s in last(run)["lr_schedulers"]] == [[0.0], [0.0]]


class Rates(Callback):
    """Collects the generator's learning rate at the beginning of every step."""

    of_the_generator: ClassVar[list[float]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        Rates.of_the_generator.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_max_epochs_lengthens_a_run(tmp_path: Path) -> None:
    epochs = ("trainer.limit_train_batches=4", "trainer.max_steps=-1", "optimizer/scheduler=constant")
    run = helpers.run(tmp_path / "run", *epochs, "trainer.max_epochs=2")
    assert last(run)["global_step"] == 8
    resume(run, "trainer.max_epochs=3")
    whole = helpers.run(tmp_path / "whole", *epochs, "trainer.max_epochs=3")
    assert same(last(run)["state_dict"], last(whole)["state_dict"])


def test_the_seed_determines_the_run(run: Path, tmp_path: Path) -> None:
    again = helpers.run(tmp_path / "again", "optimizer/scheduler=linear")
    assert_same_run(run, again)
    other = helpers.run(tmp_path / "other", "optimizer/scheduler=linear", "seed=1")
    assert not same(last(run)["state_dict"], last(other)["state_dict"])


@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer.precision=bf16-mixed",),
        ("trainer.precision=auto",),
        ("trainer.gradient_clip_val=0.1", "trainer.gradient_clip_algorithm=value"),
        ("trainer.gradient_clip_val=0.1", "trainer.precision=bf16-mixed"),
        ("trainer.accumulate_grad_batches=2",),
        ("logger=none", "callbacks.sample_grid=null", "callbacks.validation_metrics=null"),
        ("data=gaussian", "model=mlp_1d", "data.in_memory=false", "callbacks.sample_grid=null"),
        ("algorithm=simultaneous", "trainer.precision=64-true"),
        ("trainer.precision=64-true", "penalty=r1_r2"),
        ("trainer.precision=bf16-true",),
        ("loss=relativistic", "monitor=validation/loss_generator"),
        ("callbacks.validation_metrics.skip=[parzen]", "ema=none"),
        ("optimizer=sgd", "optimizer/scheduler=cosine", "loss=non_saturating"),
        pytest.param(("compile=true", "penalty=r1"), marks=pytest.mark.slow),
        ("optimizer.generator.lr=1e-3", "optimizer.discriminator.lr=1e-4"),
    ],
)
def test_what_can_be_configured(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    run = helpers.run(tmp_path / "run", *overrides)
    assert json.loads((run / "metrics.json").read_text())["train_seconds"] > 0


def test_matmul_precision_is_set(tmp_path: Path) -> None:
    before = torch.get_float32_matmul_precision()
    helpers.run(tmp_path / "run", "matmul_precision=high", "trainer.fast_dev_run=true")
    assert torch.get_float32_matmul_precision() == "high"
    torch.set_float32_matmul_precision(before)


def test_max_epochs_by_itself_sets_the_length(tmp_path: Path) -> None:
    typed = [o for o in SMALL if "max_steps" not in o]
    typed += ["trainer.max_epochs=2", "trainer.limit_train_batches=3", "optimizer/scheduler=linear"]
    train(schema.validate("train", config.compose("train", typed)), tmp_path / "run", typed)
    saved = last(tmp_path / "run")
    assert saved["global_step"] == 6
    assert all(scheduler["_last_lr"] == [0.0] for scheduler in saved["lr_schedulers"])
    typed = ["trainer.max_epochs=null"]
    assert fill_in(config.compose("train", typed), typed).trainer.max_steps == 6000


@pytest.mark.parametrize(("available", "chosen"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_precision_depends_on_the_processor(monkeypatch: pytest.MonkeyPatch, available: bool, chosen: str) -> None:
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: available)
    for given, expected in (("auto", chosen), ("32-true", "32-true")):
        composed = config.compose("train", [f"trainer.precision={given}", "trainer.accelerator=cpu"])
        assert fill_in(composed).trainer.precision == expected


def test_a_validation_interval_below_1_is_a_share_of_a_pass(tmp_path: Path) -> None:
    run = helpers.run(tmp_path / "run", "trainer.val_check_interval=0.5", "trainer.limit_train_batches=4")
    assert [step for step, _ in scalars(run)["metrics/parzen_ll"]] == [2, 4, 6, 8, 10, 12]  # three passes
    assert last(run)["global_step"] == 12


def test_a_fast_development_run_leaves_out_the_final_evaluation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run = helpers.run(tmp_path / "run", "trainer.fast_dev_run=true")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["images_seen"] == 64
    assert "parzen_ll" not in metrics
    assert "Evaluating" not in caplog.text


@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer.enable_progress_bar=false", "trainer.enable_checkpointing=false"),
        ("callbacks.progress_bar=null", "callbacks.checkpoints=null"),
    ],
)
def test_a_run_without_bar_and_checkpoints(
    tmp_path: Path, overrides: tuple[str, ...], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run = helpers.run(tmp_path / "run", *overrides)
    assert (run / "metrics.json").exists()
    assert not list(run.rglob("*.ckpt"))
    assert ".ckpt" not in caplog.text
    assert "12/12" not in capsys.readouterr().out


STOPPER = "_target_: pytorch_lightning.callbacks.EarlyStopping, mode: max, patience: 1"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            (f"+callbacks.early={{{STOPPER}, monitor: parzen_sigma, stopping_threshold: 0}}",),
            r"a callback at step 5 of 12",
        ),
        (("trainer.max_time=00:00:00:01", "trainer.max_steps=100000"), r"trainer.max_time at step \d+ of 100000"),
    ],
)
def test_a_run_that_ends_early_says_so(
    tmp_path: Path, overrides: tuple[str, ...], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run = helpers.run(tmp_path / "run", *overrides)
    assert re.search(f"Ended by {words}", caplog.text)
    assert (run / "metrics.json").exists()


def test_a_resumed_run_has_its_time_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = ("trainer.max_time=00:00:00:01", "trainer.max_steps=100000", "trainer.val_check_interval=100000")
    run = helpers.run(tmp_path / "run", *limits)
    first, seconds = last(run)["global_step"], metrics(run)["train_seconds"]
    helpers.resume(run)
    assert last(run)["global_step"] > first
    assert metrics(run)["train_seconds"] > seconds + 0.9  # of both


def test_a_callback_that_waits_for_what_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^callbacks.early: EarlyStopping failed: .*`fidd`"):
        helpers.run(tmp_path / "early", f"+callbacks.early={{{STOPPER}, monitor: fidd}}")


class Faulty:
    """Parts of a user's, which fail in training and not before."""

    class Loss(NonSaturating):
        def generator(self, fake_logits: Tensor) -> Tensor:
            if len(fake_logits) > 2:
                fake_logits @ fake_logits
            return super().generator(fake_logits)

    class Penalty:
        def __init__(self, **_: object) -> None: ...

        def __call__(self, *_: object) -> Tensor:
            return Faulty.helper()

    class Step(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
            if trainer.global_step == 2:
                raise AssertionError

    class OnlyFolder(Callback):
        def on_fit_end(self, trainer: Trainer, *_: object) -> None:
            (Path(trainer.default_root_dir) / "absent" / "file").touch()

    class Compiler(Callback):
        def on_train_batch_start(self, *_: object) -> None:
            raise BackendCompilerFailed(compile, ValueError("no such\n compiler"), None)

    class Memory(Callback):
        def on_train_batch_start(self, *_: object) -> None:
            torch.empty(2**60, dtype=torch.uint8)

    @staticmethod
    def helper() -> Tensor:
        raise KeyError("what")


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("loss._target_={}.Loss", "loss: Loss failed: mat1 and mat2 shapes cannot be multiplied .*"),
        ("+callbacks.own._target_={}.Step", "callbacks.own: Step failed: AssertionError"),
    ],
)
def test_an_error_of_a_users_part_is_one_line(tmp_path: Path, part: str, line: str) -> None:
    done = command(
        "train", *SMALL, "loss=minimax", part.format(f"{__name__}.Faulty"), "hydra.run.dir=run", cwd=tmp_path
    )
    assert done.returncode == 1
    assert re.fullmatch(rf"{line}; traceback: run/train\.log\n", done.stderr), done.stderr
    assert "Traceback" not in done.stdout
    log = (tmp_path / "run" / "train.log").read_text()
    assert "Traceback (most recent call last):" in log
    assert 'tests/run/test_training.py", line' in log


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("Memory", r"data\.batch_size=64: out of memory; a smaller batch .*can't allocate memory.*"),
        ("Compiler", r"compile=true: .* no such compiler; traceback: run/train\.log"),
        ("OnlyFolder", r"\S+run/absent/file: No such file or directory"),
    ],
)
def test_an_error_of_the_machine_is_one_line(tmp_path: Path, part: str, line: str) -> None:
    typed = f"+callbacks.own._target_={__name__}.Faulty.{part}"
    done = command("train", *SMALL, typed, "hydra.run.dir=run", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert re.fullmatch(f"{line}\n", done.stderr), done.stderr
    assert "Traceback" in (tmp_path / "run" / "train.log").read_text()


def test_an_error_of_a_users_part_has_its_traceback_on_request(tmp_path: Path) -> None:
    typed = f"+callbacks.own._target_={__name__}.Faulty.Step"
    done = call("-m", "gan_lightning.train", *SMALL, typed, cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "raise AssertionError" in done.stderr


@pytest.mark.parametrize("kind", [NotImplementedError, RuntimeError, ValueError])
def test_a_bug_in_this_package_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def faulty(*_: object) -> None:
        raise kind("a bug")

    monkeypatch.setattr("gan_lightning.callbacks.scalars.time.perf_counter", faulty)
    with pytest.raises(kind, match=r"^a bug$") as caught:
        helpers.run(tmp_path / "run")
    assert not isinstance(caught.value, InputError)


def test_csv_over_a_resume(tmp_path: Path) -> None:
    run = helpers.run(tmp_path / "run", "logger=csv", "optimizer/scheduler=constant")
    resume(run, "trainer.max_steps=14")
    first, second = ((run / "csv" / f"version_{n}" / "metrics.csv").read_text().splitlines() for n in (0, 1))
    assert "metrics/parzen_ll" in first[0]
    assert "loss/discriminator" in second[0]

"""A run's folder, its resumption, and the game's place in Lightning."""

import json
import re
import signal
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from gan_lightning import config
from gan_lightning.errors import InputError
from gan_lightning.train import make_logger
from tests import helpers
from tests.helpers import SMALL, assert_same_run, call, grids, last, resume, same, scalars


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
    figures = json.loads((run / "metrics.json").read_text())
    assert figures["images_seen"] == 12 * 64
    assert figures["seed"] == 0
    assert figures["images_per_second"] == pytest.approx(12 * 64 / figures["train_seconds"])
    for name in ("parzen_ll", "parzen_ll_se", "parzen_sigma", "loss_discriminator", "loss_generator", "accuracy"):
        assert isinstance(figures[name], float)
        assert isinstance(figures[f"val_{name}"], float)


def test_everything_in_tensorboard_shares_the_step_axis(run: Path) -> None:
    seen = scalars(run)
    every_2 = [2, 4, 6, 8, 10, 12]
    for tag in ("loss/discriminator", "loss/generator", "probability/real", "probability/fake"):
        assert [step for step, _ in seen[tag]] == every_2
    assert seen["images_seen"] == [(step, step * 64) for step in every_2]
    assert all(value > 0 for _, value in seen["throughput/images_per_second"])
    for tag in ("metrics/parzen_ll", "validation/accuracy", "validation/loss_generator"):
        assert [step for step, _ in seen[tag]] == [5, 10]
    assert [step for step, _ in grids(run)] == [0, 5, 10, 12]
    assert all(0 < value < 1 for _, value in seen["probability/real"])


def test_hparams_tab_has_the_final_figures(run: Path) -> None:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    contents = events.summary_metadata
    start = plugin_data_pb2.HParamsPluginData.FromString(
        contents["_hparams_/session_start_info"].plugin_data.content
    ).session_start_info
    assert start.hparams["optimizer.lr"].number_value == 0.001
    assert start.hparams["k"].number_value == 1
    figures = json.loads((run / "metrics.json").read_text())
    assert scalars(run)["final/parzen_ll"] == [(12, pytest.approx(figures["parzen_ll"]))]


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
        resume(cut, "callbacks.signal=null")
    else:  # it was about to end anyway
        helpers.run(cut, "optimizer/scheduler=linear", killer)
    assert signal.getsignal(signum) is former
    assert_same_run(run, cut)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_without_checkpoints_says_so(tmp_path: Path, signum: int) -> None:
    killer = f"+callbacks.signal={{_target_: tests.helpers.SignalAt, step: 4, signum: {int(signum)}}}"
    program = (
        "import runpy, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which shells take from what runs behind them
        "runpy.run_module('gan_lightning.train', run_name='__main__')"
    )
    done = call("-c", program, *SMALL, "callbacks.checkpoints=null", killer, cwd=tmp_path)
    assert done.returncode == 128 + signum
    assert re.search(rf"Stopped by {signal.Signals(signum).name} at step [45], without a checkpoint", done.stdout)


@pytest.mark.parametrize("streamed", [(), ("data.in_memory=false", "trainer.max_epochs=3", "trainer.max_steps=-1")])
def test_several_epochs_interrupted_twice_give_the_same_bits(tmp_path: Path, streamed: tuple[str, ...]) -> None:
    epochs = ("trainer.limit_train_batches=4", "data.batch_size=32", *streamed)
    whole = helpers.run(tmp_path / "whole", *epochs)
    cut = tmp_path / "cut"
    for step, go in ((4, helpers.run), (8, resume)):
        killer = f"+callbacks.signal{step}={{_target_: tests.helpers.SignalAt, step: {step}, signum: 15}}"
        with pytest.raises(SystemExit):
            go(cut, *(epochs if go is helpers.run else ()), killer)
    resume(cut, "callbacks.signal4=null", "callbacks.signal8=null")
    assert_same_run(whole, cut)


def test_a_killed_run_goes_on_from_its_last_validation(run: Path, tmp_path: Path) -> None:
    """SIGKILL leaves no time: what is there is the checkpoint of step 10, and events beyond it."""
    cut = helpers.run(tmp_path / "cut", "optimizer/scheduler=linear", "callbacks.checkpoints.mode=min")
    saved = sorted((cut / "checkpoints").glob("best-*.ckpt"))
    step = int(re.findall(r"\d+", saved[-1].name)[-1])
    saved[-1].replace(cut / "checkpoints" / "last.ckpt")
    assert last(cut)["global_step"] == step
    resume(cut)
    x, y = last(run), last(cut)
    assert same(x["state_dict"], y["state_dict"])
    assert same(x["optimizer_states"], y["optimizer_states"])
    assert [s for s, _ in scalars(cut)["loss/generator"]] == [2, 4, 6, 8, 10, 12]


def test_a_longer_run_is_a_continuation(run: Path, tmp_path: Path) -> None:
    constant = "optimizer/scheduler=constant"
    longer = helpers.run(tmp_path / "longer", constant, "trainer.max_steps=17")
    short = helpers.run(tmp_path / "short", constant)
    with pytest.raises(InputError, match=r"max_steps=11: allowed: at least 12, the checkpoint's step, or -1"):
        resume(short, "trainer.max_steps=11")
    with pytest.raises(InputError, match=r"max_epochs=9: allowed: null, as at the start; max_steps sets"):
        resume(short, "trainer.max_epochs=9")
    resume(short, "trainer.max_steps=17")
    assert same(last(longer)["state_dict"], last(short)["state_dict"])


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("+optimizer.generator.eps=-1", "optimizer.generator: Invalid epsilon value: -1"),
        (
            "optimizer.generator._target_=tests.helpers.lbfgs",
            "optimizer.generator: LBFGS computes losses anew within a step; allowed: others",
        ),
        ("optimizer.discriminator._target_=torch.optim.SGD", "optimizer.discriminator: SGD.* unexpected .*'betas'"),
    ],
)
def test_optimizers_refuse_arguments_in_a_line(tmp_path: Path, typed: str, line: str) -> None:
    with pytest.raises(InputError, match=line):
        helpers.run(tmp_path / "run", typed)


def test_seeds_decide(run: Path, tmp_path: Path) -> None:
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
        ("logger=none", "callbacks.sample_grid=null", "callbacks.scoring=null"),
        ("data=gaussian", "model=mlp_1d", "data.in_memory=false", "callbacks.sample_grid=null"),
        ("trainer.fast_dev_run=true",),
        ("optimizer=sgd", "optimizer/scheduler=cosine", "loss=non_saturating"),
        pytest.param(("compile=true", "penalty=r1"), marks=pytest.mark.slow),
        ("optimizer.generator.lr=1e-3", "optimizer.discriminator.lr=1e-4"),
    ],
)
def test_what_can_be_configured(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    run = helpers.run(tmp_path / "run", *overrides)
    assert json.loads((run / "metrics.json").read_text())["train_seconds"] > 0


def test_products_on_a_gpu_can_be_in_tf32(tmp_path: Path) -> None:
    before = torch.get_float32_matmul_precision()
    helpers.run(tmp_path / "run", "matmul_precision=high", "trainer.fast_dev_run=true")
    assert torch.get_float32_matmul_precision() == "high"
    torch.set_float32_matmul_precision(before)


def test_max_epochs_alone_sets_the_length(tmp_path: Path) -> None:
    from gan_lightning.config import choose_length, compose
    from gan_lightning.train import train

    typed = [o for o in SMALL if "max_steps" not in o and "scheduler" not in o]
    typed += ["trainer.max_epochs=2", "trainer.limit_train_batches=3", "optimizer/scheduler=linear"]
    config = compose("train", typed)
    choose_length(config, typed)
    (tmp_path / "run").mkdir()
    train(config, tmp_path / "run", typed, 0)
    saved = last(tmp_path / "run")
    assert saved["global_step"] == 6
    assert all(scheduler["_last_lr"] == [0.0] for scheduler in saved["lr_schedulers"])


@pytest.mark.parametrize(("there", "chosen"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_precision_asks_the_processor(monkeypatch: pytest.MonkeyPatch, there: bool, chosen: str) -> None:
    from gan_lightning.config import choose_precision, compose

    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: there)
    config = compose("train", ["trainer.precision=auto", "trainer.accelerator=cpu"])
    choose_precision(config)
    assert config.trainer.precision == chosen
    config = compose("train", ["trainer.precision=32-true"])
    choose_precision(config)
    assert config.trainer.precision == "32-true"


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc's allocator")
def test_freed_memory_is_kept_for_the_next_step_until_the_evaluation() -> None:
    faults = """
import resource, torch
from gan_lightning.overhead import keep_freed_memory
def step(): [torch.ones(2_000_000) for _ in range(4)]
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20): step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for keep in (False, True, False):
    keep_freed_memory(keep); step(); print(faults())
"""
    before, within, after = map(int, helpers.call("-c", faults, cwd=helpers.ROOT).stdout.split())
    assert within < min(before, after) / 10


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


def test_what_is_no_callback_or_watches_for_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^callbacks.odd._target_=builtins.dict: no Lightning callback$"):
        helpers.run(tmp_path / "odd", "+callbacks.odd._target_=builtins.dict")
    with pytest.raises(InputError, match=r"^trainer: Early stopping conditioned on metric `fidd`"):
        helpers.run(tmp_path / "early", f"+callbacks.early={{{STOPPER}, monitor: fidd}}")


def test_a_fault_in_ones_own_part_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_: object) -> None:
        raise NotImplementedError("of one's own")

    monkeypatch.setattr("gan_lightning.callbacks.scalars.Scalars.on_train_start", faulty)
    with pytest.raises(NotImplementedError):
        helpers.run(tmp_path / "run")


def test_csv_is_written_as_it_is_logged(tmp_path: Path) -> None:
    logger = make_logger(config.compose("train", ["logger=csv"]), tmp_path, 0)
    logger.log_metrics({"loss": 0.5}, step=50)  # of a run that may be killed
    (written,) = tmp_path.rglob("metrics.csv")
    assert written.read_text().split() == ["loss,step", "0.5,50"]


def test_figures_as_csv_over_a_resume(tmp_path: Path) -> None:
    run = helpers.run(tmp_path / "run", "logger=csv", "optimizer/scheduler=constant")
    resume(run, "trainer.max_steps=14")
    first, second = ((run / "csv" / f"version_{n}" / "metrics.csv").read_text().splitlines() for n in (0, 1))
    assert "metrics/parzen_ll" in first[0]
    assert "loss/discriminator" in second[0]

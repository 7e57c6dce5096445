"""Several steps in one of Lightning's batches, and hooks that nobody has: not to be seen from outside."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import LambdaCallback, LearningRateMonitor

from gan_lightning import config
from gan_lightning.gan import GAN
from gan_lightning.overhead import skip_empty_hooks, steps_per_batch
from gan_lightning.simultaneous import SimultaneousGAN
from gan_lightning.train import make_callbacks
from tests import helpers
from tests.helpers import assert_same_run, last, resume, same, scalars

TENS = (
    *("trainer.max_steps=40", "trainer.val_check_interval=20", "trainer.log_every_n_steps=10"),
    *("callbacks.sample_grid.every_n_steps=10", "data.val_size=59000"),  # 15 steps in a pass over the data
)
EACH_STEP = "+callbacks.each={_target_: tests.test_overhead.EachStep}"
SOME_STEP = "+callbacks.each={_target_: tests.test_overhead.SomeStep}"


class EachStep(Callback):
    """Count Lightning's batches; having a hook on them, and no interval, it is shown every step."""

    seen = 0

    def on_train_batch_end(self, trainer: Any, pl_module: GAN, *_: Any) -> None:
        self.seen += 1
        assert pl_module.steps_per_batch == 1
        assert trainer.global_step == self.seen


class InTens(Callback):
    """Look at a step in ten."""

    every_n_steps = 10

    def on_train_batch_end(self, trainer: Any, pl_module: GAN, *_: Any) -> None:
        assert pl_module.steps_per_batch == 10
        assert trainer.global_step % 10 == 0


def steps(*overrides: str, gan: GAN | None = None, more: tuple[Callback, ...] = (), step: int = 0) -> int:
    composed = config.compose("train", list(overrides))
    config.leave_out_featureless(composed)
    return steps_per_batch(config.plain(composed), gan or helpers.tiny_gan(), [*make_callbacks(composed), *more], step)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), 10),
        (("experiment=article",), 10),
        (("trainer.max_steps=15",), 5),
        (("trainer.log_every_n_steps=8",), 2),
        (("trainer.val_check_interval=7",), 1),
        (("callbacks.sample_grid.every_n_steps=781",), 1),
        (("callbacks.sample_grid=null",), 10),
        (("trainer.max_steps=-1",), 1),
        (("trainer.max_epochs=3",), 1),
        (("trainer.min_epochs=3",), 1),
        (("data.in_memory=false",), 1),
        (("data.batch_size=2000",), 1),
        (("model.image_shape=[3,64,64]",), 1),
        (("trainer.limit_train_batches=100",), 1),
        (("trainer.fast_dev_run=true",), 1),
        (("experiment=figure1",), 1),
        (("experiment=goodfellow2014",), 1),
    ],
)
def test_as_many_as_nobody_looks_in_between(overrides: tuple[str, ...], expected: int) -> None:
    assert steps(*overrides) == expected


def test_whoever_has_a_hook_on_batches_gets_every_step() -> None:
    class Own(GAN):
        def on_train_batch_end(self, *_: Any) -> None: ...

    class Logs(GAN):
        def update_discriminator(self, real: Any) -> Any: ...

    assert steps(gan=helpers.tiny_gan(Own)) == steps(gan=helpers.tiny_gan(Logs)) == 1
    assert steps(gan=helpers.tiny_gan(SimultaneousGAN)) == 10
    assert steps(more=(EachStep(),)) == steps(more=(LearningRateMonitor(),)) == 1
    assert steps(more=(LambdaCallback(on_train_batch_start=lambda *_: None),)) == 1
    assert steps(more=(LambdaCallback(on_before_optimizer_step=lambda *_: None),)) == 1
    assert steps(more=(LambdaCallback(on_train_epoch_end=lambda *_: None),)) == 1
    assert steps(more=(LambdaCallback(on_train_end=lambda *_: None), InTens())) == 10
    assert steps(step=6) == 2


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("overhead") / "tens"
    return helpers.run(folder, *TENS, "+callbacks.tens={_target_: tests.test_overhead.InTens}")


def test_a_run_is_the_same_to_the_bit(at_once: Path, tmp_path: Path) -> None:
    one_by_one = helpers.run(tmp_path / "ones", *TENS, EACH_STEP)
    assert_same_run(at_once, one_by_one)
    assert [step for step, _ in scalars(at_once)["metrics/parzen_ll"]] == [20, 40]
    assert {p.name for p in (at_once / "checkpoints").iterdir()} == {
        p.name for p in (one_by_one / "checkpoints").iterdir()
    }


@pytest.mark.parametrize(
    ("step", "between"), [(9, ()), (13, ()), (13, ("trainer.log_every_n_steps=3",)), (22, (SOME_STEP,))]
)
def test_a_resumed_run_may_take_more_or_fewer_at_once(
    at_once: Path, tmp_path: Path, step: int, between: tuple[str, ...]
) -> None:
    cut = tmp_path / "cut"
    with pytest.raises(SystemExit):
        helpers.run(
            cut,
            *TENS,
            f"+callbacks.signal={{_target_: tests.test_overhead.StopIn, step: {step}, signum: {int(signal.SIGTERM)}}}",
        )
    assert last(cut)["global_step"] == step + 1
    resume(cut, "callbacks.signal=null", *between)
    assert same(last(at_once)["state_dict"], last(cut)["state_dict"])
    assert [at for at, _ in scalars(cut)["metrics/parzen_ll"]] == [20, 40]


class SomeStep(Callback):
    def on_train_batch_end(self, trainer: Any, pl_module: GAN, *_: Any) -> None:
        assert pl_module.steps_per_batch == 1


class StopIn(Callback):
    """Send this process a signal in the middle of a batch."""

    every_n_steps = 0  # ten at once, in spite of its hook

    def __init__(self, *, step: int, signum: int) -> None:
        self.step, self.signum = step, signum

    def on_before_optimizer_step(self, trainer: Any, pl_module: GAN, optimizer: Any) -> None:
        assert pl_module.steps_per_batch == 10
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.signum)


def test_hooks_that_someone_has_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytorch_lightning.trainer import call

    names = ("_call_callback_hooks", "_call_lightning_module_hook")
    entered: list[str] = []
    for name in names:
        original = getattr(call, name)
        original = getattr(original, "__wrapped__", original)

        def count(
            trainer: Any, hook: str, *args: Any, original: Any = original, name: str = name, **kwargs: Any
        ) -> Any:
            entered.append(f"{name} {hook}")
            return original(trainer, hook, *args, **kwargs)

        monkeypatch.setattr(call, name, count)
    skip_empty_hooks()
    once = call._call_callback_hooks
    skip_empty_hooks()
    assert call._call_callback_hooks is once

    class Counting(Callback):
        count = 0

        def on_after_backward(self, *_: Any) -> None:
            self.count += 1

    class CountingGAN(GAN):
        count = 0

        def on_before_backward(self, loss: Any) -> None:
            self.count += 1

    gan, mine, updates = helpers.tiny_gan(CountingGAN), Counting(), []
    helpers.fit(gan, 3, callbacks=[mine, LambdaCallback(on_before_optimizer_step=lambda *_: updates.append(1))])
    assert gan.count == mine.count == len(updates) == 6  # two players
    callbacks, module = names
    assert entered.count(f"{callbacks} on_after_backward") == entered.count(f"{module} on_before_backward") == 6
    assert not {f"{callbacks} on_before_backward", f"{module} on_after_backward"} & {*entered}


def test_two_devices(tmp_path: Path) -> None:
    for name, more in (("tens", ()), ("ones", (EACH_STEP,))):
        typed = (*helpers.SMALL, *TENS, "trainer.devices=2", f"hydra.run.dir={name}", *more)
        done = helpers.call("-m", "gan_lightning.train", *typed, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "tens", tmp_path / "ones")

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from gan_lightning.callbacks.save_checkpoints import SaveCheckpoints
from gan_lightning.callbacks.stop_on_nan import MAX_RESTORES, StopOnNan
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.losses import NonSaturating
from gan_lightning.schedules import linear_decay
from tests.callbacks.conftest import Train
from tests.helpers import tiny_gan


class Break(Callback):
    """Break the GAN at the beginning of some steps."""

    def __init__(self, what: str, *at: int, value: float = math.nan) -> None:
        self.what, self.at, self.value = what, at, value

    def on_train_batch_start(self, trainer: Trainer, pl_module: GAN, batch: Any, batch_idx: int) -> None:
        if trainer.global_step in self.at:
            if self.what == "images":
                batch[0][3, 0, 1, 2] = self.value
            elif self.what == "loss":
                pl_module.loss = Broken(self.value)
            elif self.what != "after":
                next(getattr(pl_module, self.what).parameters()).data[0] = self.value

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: object) -> None:
        pl_module.loss = NonSaturating()
        if self.what == "after" and trainer.global_step in self.at:
            next(pl_module.generator.parameters()).data[0] = self.value


class Broken(NonSaturating):
    def __init__(self, value: float) -> None:
        self.value = value

    def generator(self, fake_logits: Tensor) -> Tensor:
        return super().generator(fake_logits) * self.value


def step_of(path: Path) -> int:
    return torch.load(path, weights_only=True)["global_step"]


def test_the_action_is_validated() -> None:
    with pytest.raises(ValueError, match=r"^action=x: must be raise or restore$"):
        StopOnNan(action="x")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("loss", "loss/generator is"),
        ("images", "the images of the batch contain"),
        ("generator", "loss/"),
        ("discriminator", "loss/discriminator"),
    ],
)
def test_stops_at_the_step_and_names_it(train: Train, tmp_path: Path, what: str, words: str, value: float) -> None:
    callbacks = (Break(what, 4, value=value), StopOnNan(action="raise"), SaveCheckpoints(monitor="x", mode="max"))
    with pytest.raises(InputError, match=rf"^step 5: .*{words}") as stopped:
        train(*callbacks, enable_checkpointing=True)
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert f"the last good checkpoint is {last}" in str(stopped.value)
    assert step_of(last) == 3  # of the validation


def test_stops_before_there_is_a_checkpoint(train: Train) -> None:
    with pytest.raises(InputError, match="there is no checkpoint yet"):
        train(Break("loss", 0), StopOnNan(action="raise"))


def test_weights_may_be_large(train: Train, tmp_path: Path) -> None:
    """Their sum of squares exceeds the range of float32."""
    gan = tiny_gan()
    gan.register_buffer("large", torch.full((4,), 3e38))
    save = SaveCheckpoints(monitor="x", mode="max")
    train(StopOnNan(action="raise"), save, gan=gan, enable_checkpointing=True)
    assert step_of(tmp_path / "checkpoints" / "last.ckpt") == 6


@pytest.mark.parametrize("at", [3, 6])
def test_weights_are_restored_before_they_would_be_saved(train: Train, tmp_path: Path, at: int) -> None:
    stop, save = StopOnNan(action="restore"), SaveCheckpoints(monitor="x", mode="max")
    assert train(Break("after", at), stop, save, enable_checkpointing=True).global_step == 6
    assert stop.restores == 1
    assert step_of(tmp_path / "checkpoints" / "last.ckpt") == 6


@pytest.mark.parametrize("at", [3, 6])  # before a validation, and in the last step
def test_weights_that_are_not_finite_are_not_saved(train: Train, tmp_path: Path, at: int) -> None:
    save = SaveCheckpoints(monitor="validation/accuracy", mode="max")
    with pytest.raises(InputError, match=f"^step {at}: weights of generator are nan"):
        train(Break("after", at), StopOnNan(action="raise"), save, enable_checkpointing=True)
    for path in (tmp_path / "checkpoints").glob("*.ckpt"):
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in state.values())


def test_a_healthy_run_is_not_changed(train: Train, tmp_path: Path) -> None:
    states = []
    for callbacks in ((), (StopOnNan(action="raise"),), (StopOnNan(action="restore"),)):
        gan = tiny_gan()
        train(*callbacks, gan=gan)
        states.append(gan.state_dict())
    for state in states[1:]:
        assert all(torch.equal(value, states[0][name]) for name, value in state.items())


class Weights(Callback):
    """Remember the weights and learning rates after each step."""

    def __init__(self) -> None:
        self.weights: dict[int, Tensor] = {}
        self.rates: dict[int, list[float]] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: object) -> None:
        self.weights[trainer.global_step] = next(pl_module.discriminator.parameters()).detach().clone()
        self.rates[trainer.global_step] = [o.param_groups[0]["lr"] for o in trainer.optimizers]


@pytest.mark.parametrize("scheduler", [None, lambda optimizer, steps: linear_decay(optimizer, steps, flat=0.0)])
def test_restores_the_last_checkpoint_at_half_the_rate(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture, scheduler: Any
) -> None:
    before, after = Weights(), Weights()
    train(before, gan=tiny_gan(scheduler=scheduler), max_steps=8)
    stop, save = StopOnNan(action="restore"), SaveCheckpoints(monitor="x", mode="max")
    trainer = train(
        Break("loss", 4), stop, after, save, enable_checkpointing=True, max_steps=8, gan=tiny_gan(scheduler=scheduler)
    )
    assert trainer.global_step == 8
    assert torch.equal(after.weights[5], before.weights[3])  # as the checkpoint had them
    assert after.rates[4] == before.rates[4]
    for step in (5, 6, 7):
        assert after.rates[step] == pytest.approx([rate / 2 for rate in before.rates[step]])
    assert stop.restores == 1
    assert "step 5: loss/generator is nan or infinite; restored the weights of step 3" in caplog.text


def test_restores_before_the_first_validation(train: Train) -> None:
    stop, save = StopOnNan(action="restore"), SaveCheckpoints(monitor="x", mode="max")
    assert train(Break("loss", 1), stop, save, enable_checkpointing=True).global_step == 6
    assert stop.restores == 1


def test_gives_up_in_the_end(train: Train) -> None:
    save = SaveCheckpoints(monitor="x", mode="max")
    breaks = Break("loss", *range(100))
    with pytest.raises(InputError, match=f"^step {MAX_RESTORES + 1}: .*restored {MAX_RESTORES} times"):
        train(breaks, StopOnNan(action="restore"), save, enable_checkpointing=True, max_steps=100)


def test_the_count_is_saved(train: Train, tmp_path: Path) -> None:
    stop, save = StopOnNan(action="restore"), SaveCheckpoints(monitor="x", mode="max")
    train(Break("loss", 1), stop, save, enable_checkpointing=True)
    resumed = StopOnNan(action="restore")
    path = tmp_path / "checkpoints" / "last.ckpt"
    save = SaveCheckpoints(monitor="x", mode="max")
    train(resumed, save, enable_checkpointing=True, max_steps=9, ckpt_path=path)
    assert resumed.restores == 1

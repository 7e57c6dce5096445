"""Warnings of a game that goes wrong: each failure is provoked, and healthy runs are not warned."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.callbacks import diagnoses
from gan_lightning.callbacks.diagnoses import FIRST_STEP, IN_A_ROW, SENTENCES, Diagnoses
from gan_lightning.data.images import InMemoryImages
from gan_lightning.gan import GAN
from gan_lightning.networks import mlp
from tests import helpers
from tests.callbacks.conftest import Train
from tests.helpers import tiny_gan

adam = partial(torch.optim.Adam, lr=0.01)
no_change = partial(torch.optim.SGD, lr=0.0)


class Constant(mlp.Generator):
    """A generator that ignores its noise."""

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(0 * z, labels)


def generator(kind: type[mlp.Generator] = mlp.Generator) -> nn.Module:
    return kind(latent_dim=3, image_shape=[1, 4, 4], widths=[8], negative_slope=0.2, batch_norm_eps=0.8)


def wide() -> nn.Module:
    return mlp.Discriminator(image_shape=[1, 4, 4], widths=[64], negative_slope=0.2)


def enlarged(build: Callable[[], nn.Module], factor: float) -> nn.Module:
    """Return a network with a last layer of large weights."""
    network = build()
    with torch.no_grad():
        next(p for p in reversed([*network.parameters()]) if p.ndim == 2).mul_(factor)
    return network


def reported(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return which symptoms were reported, in order."""
    messages = [record.message for record in caplog.records if record.name == diagnoses.__name__]
    return [next(name for name, (what, _) in SENTENCES.items() if what in message) for message in messages]


PROVOKED: dict[str, dict[str, Any]] = {
    "won": {"discriminator": wide, "generator_optimizer": no_change, "discriminator_optimizer": adam},
    "collapse": {"generator": partial(generator, Constant)},
    "vanishing generator": {"generator": partial(enlarged, generator, 1e4)},  # its tanh is saturated
    "exploding discriminator": {"discriminator": partial(enlarged, wide, 1e6), "discriminator_optimizer": no_change},
}


@pytest.mark.parametrize("symptom", PROVOKED)
def test_a_failure_is_named_within_300_steps(train: Train, caplog: pytest.LogCaptureFixture, symptom: str) -> None:
    built = {
        name: part() if name in ("generator", "discriminator") else part for name, part in PROVOKED[symptom].items()
    }
    train(Diagnoses(), gan=tiny_gan(num_fixed_latents=64, **built), max_steps=180, log_every_n_steps=20)
    assert reported(caplog).count(symptom) == 1
    (message,) = [r.message for r in caplog.records if SENTENCES[symptom][0] in r.message]
    assert "since step" in message
    assert "; try " in message


class Brightness(nn.Module):
    """A discriminator whose logit is the brightness of an image, and no better."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return x.flatten(1).mean(1, keepdim=True)


@pytest.mark.parametrize(("brighter", "is_present"), [(0.0, False), (0.05, False), (0.5, True)])
def test_a_discriminator_that_prefers_training_images_has_learned_them_by_heart(
    brighter: float, is_present: bool
) -> None:
    gan, diagnosis, labels = tiny_gan(discriminator=wide()), Diagnoses(), torch.zeros(64, dtype=torch.int64)
    gan.discriminator, diagnosis.gradient_norms = Brightness(), {}
    for split, mean in (("train", brighter), ("val", 0.0)):
        diagnosis.real[split] = InMemoryImages(torch.randn(64, 1, 4, 4) + mean, labels)
    outputs = {"logits/real": torch.ones(4, 1), "loss/discriminator": torch.tensor(1.0)}
    assert dict(diagnosis.examine(gan, outputs, FIRST_STEP))["learned by heart"] == is_present
    assert "learned by heart" not in dict(diagnosis.examine(gan, outputs, FIRST_STEP - 1))


@pytest.mark.slow
def test_missing_modes_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With too high a rate and no penalty, points fall on one or two modes of eight."""
    rates = ("penalty=none", "ema=none", "optimizer.lr=0.02")
    train_an_experiment(tmp_path, "ring", *rates, "trainer.log_every_n_steps=25")
    assert "missing modes" in reported(caplog)


def train_an_experiment(folder: Path, experiment: str, *overrides: str) -> None:
    nothing = [f"callbacks.{name}=null" for name in ("final_evaluation", "validation_metrics", "animations", "norms")]
    nothing += [f"callbacks.{name}=null" for name in ("paper_figures", "sample_grid", "discriminator_outputs")]
    typed = [f"experiment={experiment}", *nothing, "trainer.max_steps=300", "trainer.val_check_interval=300"]
    typed += ["trainer.limit_val_batches=1", "trainer.accelerator=cpu", "monitor=null", *overrides]
    helpers.train(helpers.schema.validate("train", helpers.config.compose("train", typed)), folder, typed)


def test_reports_once_and_again_after_an_absence(caplog: pytest.LogCaptureFixture) -> None:
    diagnosis = Diagnoses()
    present = [1, 0, 1, 1, *[1] * IN_A_ROW, 0, 1, *[0] * IN_A_ROW, *[1] * IN_A_ROW]
    for step, is_present in enumerate(present):
        diagnosis.note(step, "won", bool(is_present))
    first, second = [record.message for record in caplog.records]
    assert first.startswith("step 4: D wins outright")
    assert "since step 2;" in first
    assert "since step 12;" in second


def test_a_resumed_run_does_not_repeat_a_report(caplog: pytest.LogCaptureFixture) -> None:
    before, after = Diagnoses(), Diagnoses()
    for step in range(IN_A_ROW):
        before.note(step, "won", True)
    after.load_state_dict(before.state_dict())
    after.note(IN_A_ROW, "won", True)
    assert reported(caplog) == ["won"]


def test_the_steps_between_measure_nothing(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def examine(self: Diagnoses, gan: GAN, outputs: Any, step: int) -> list[Any]:
        assert set(self.gradient_norms) == {"generator", "discriminator"}
        steps.append(step)
        return []

    monkeypatch.setattr(Diagnoses, "examine", examine)
    train(Diagnoses(), max_steps=7, log_every_n_steps=3)
    assert steps == [3, 6]


def test_the_game_stays_the_same(train: Train) -> None:
    alone, watched = tiny_gan(), tiny_gan()
    train(gan=alone, max_steps=FIRST_STEP + 6)
    train(Diagnoses(), gan=watched, max_steps=FIRST_STEP + 6)
    assert helpers.same(alone.state_dict(), watched.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("symptom", "overrides"),
    [
        ("won", ["article", "optimizer.generator.lr=1e-6", "optimizer.discriminator.lr=2e-3"]),
        ("won", ["default", "optimizer.generator.lr=1e-7"]),
        ("collapse", ["article", "optimizer.lr=0.1"]),
        ("vanishing generator", ["article", "optimizer.lr=0.1"]),
        ("exploding discriminator", ["default", "optimizer.lr=0.1"]),
        ("learned by heart", ["article", "data.val_size=59980", "data.batch_size=20"]),
    ],
)
def test_a_failure_of_an_experiment_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, symptom: str, overrides: list[str]
) -> None:
    train_an_experiment(tmp_path, *overrides)
    assert symptom in reported(caplog)


@pytest.mark.slow
@pytest.mark.parametrize(
    "experiment",
    ["article", "default", "conditional", "ring", "grid", "figure1", "goodfellow2014", "wgan_gp", "hinge", "dcgan"],
)
def test_a_healthy_run_is_not_warned(tmp_path: Path, caplog: pytest.LogCaptureFixture, experiment: str) -> None:
    train_an_experiment(tmp_path, experiment)
    assert reported(caplog) == []

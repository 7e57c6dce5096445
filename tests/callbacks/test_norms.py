from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import CSVLogger
from torch.optim.lr_scheduler import ExponentialLR

from gan_lightning.callbacks.animations import Animations
from gan_lightning.callbacks.discriminator_outputs import DiscriminatorOutputs
from gan_lightning.callbacks.norms import Norms
from gan_lightning.callbacks.paper_figures import PaperFigures
from gan_lightning.gan import GAN
from gan_lightning.penalties import R1
from tests import helpers
from tests.callbacks.conftest import Train
from tests.helpers import tiny_gan


class Logger(CSVLogger):
    """A logger that keeps its values in memory."""

    def __init__(self) -> None:
        super().__init__("")
        self.logged: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.logged.append((step or 0, metrics))

    def save(self) -> None: ...


class Difference(Callback):
    """Derive gradients from what plain gradient descent changes, and keep the weights' norms."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:
        self.before = {n: helpers.weights(getattr(pl_module, n)) for n in ("generator", "discriminator")}

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:
        self.gradients, self.norms = {}, {}
        for (name, before), rate in zip(self.before.items(), (0.1, 0.2), strict=True):
            now = dict(getattr(pl_module, name).named_parameters())
            changes = torch.cat([(before[key] - value.detach()).flatten() / rate for key, value in now.items()])
            self.gradients[name] = float(changes.norm())
            self.norms[name] = float(torch.cat([value.detach().flatten() for value in now.values()]).norm())


@pytest.mark.parametrize("clip", [None, 0.01])
def test_logs_norms_rates_and_the_penalty_at_logged_steps(train: Train, clip: float | None) -> None:
    logger, difference = Logger(), Difference()
    gan = tiny_gan(penalty=R1(gamma=1.0, interval=4), gradient_clip_val=clip)
    train(difference, Norms(), gan=gan, logger=logger, max_steps=6, log_every_n_steps=3)
    assert [step for step, _ in logger.logged] == [3, 6]
    values = logger.logged[-1][1]
    for name, rate in (("generator", 0.1), ("discriminator", 0.2)):
        assert values[f"norm/gradient_{name}"] == pytest.approx(difference.gradients[name], rel=1e-3)
        assert values[f"norm/weights_{name}"] == pytest.approx(difference.norms[name], rel=1e-5)
        assert values[f"optimizer/lr_{name}"] == rate
        if clip:
            assert values[f"norm/gradient_{name}"] <= clip * 1.001
    assert values["loss/penalty"] > 0
    assert "penalize" not in vars(gan)  # as before the run


def test_the_rates_are_those_of_the_step(train: Train) -> None:
    logger = Logger()
    gan = tiny_gan(scheduler=lambda optimizer, steps: ExponentialLR(optimizer, 0.9))
    train(Norms(), gan=gan, logger=logger, max_steps=4, log_every_n_steps=1)
    rates = [values["optimizer/lr_generator"] for _, values in logger.logged]
    assert rates[0] == 0.1
    assert rates == sorted(rates, reverse=True)
    assert "loss/penalty" not in logger.logged[0][1]


def test_watching_changes_nothing(train: Train) -> None:
    by_itself, watched = tiny_gan(), tiny_gan()
    train(gan=by_itself)
    train(Norms(), Animations(seed=0), PaperFigures(seed=0), DiscriminatorOutputs(num_images=8, seed=0), gan=watched)
    assert helpers.same(by_itself.state_dict(), watched.state_dict())

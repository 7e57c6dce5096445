from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from gan_lightning.callbacks.validation_metrics import ValidationMetrics
from tests.callbacks.conftest import Train


class Images(Metric):
    """Number of generated minus number of real images."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.tensor(0))

    def update(self, images: Tensor, *, real: bool) -> None:
        self.total += -len(images) if real else len(images)

    def compute(self) -> Tensor:
        return self.total


def make(**changes: Any) -> ValidationMetrics:
    arguments = {"metrics": {"images": Images(), "other": Images()}, "skip": ["other", "absent"]}
    return ValidationMetrics(**(arguments | {"num_images": 25, "num_real": 8, "seed": 0} | changes))


@pytest.mark.parametrize("name", ["num_images", "num_real"])
def test_arguments_are_validated(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}=0: .* at least 1$"):
        make(**{name: 0})


def test_metrics_are_computed_and_can_be_monitored(train: Train) -> None:
    trainer = train(make())
    assert trainer.callback_metrics["images"] == 25 - 8
    assert "other" not in trainer.callback_metrics
    assert "metrics/images" not in trainer.callback_metrics  # for the loggers only


def test_the_sanity_check_computes_no_metrics(train: Train) -> None:
    trainer = train(make(), num_sanity_val_steps=1, max_steps=2)
    assert "images" not in trainer.callback_metrics

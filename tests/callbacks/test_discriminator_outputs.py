from pathlib import Path

import pytest
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_lightning.callbacks.discriminator_outputs import DiscriminatorOutputs, logits
from gan_lightning.losses import Hinge
from tests.callbacks.conftest import Train
from tests.helpers import tiny_gan


@pytest.mark.parametrize("kind", ["probability", "logits"])
def test_histograms_and_the_difference_of_the_means(train: Train, tmp_path: Path, kind: str) -> None:
    gan = tiny_gan(**({"loss": Hinge()} if kind == "logits" else {}))
    trainer = train(DiscriminatorOutputs(num_images=8, seed=0), gan=gan, logger=TensorBoardLogger(tmp_path, "", ""))
    events = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0})
    events.Reload()
    for name in ("training", "validation", "generated"):
        assert [(e.step, e.histogram_value.num) for e in events.Histograms(f"{kind}/{name}")] == [(3, 8), (6, 8)]
    data = trainer.datamodule
    outputs = [logits(gan, images.first(8)) for images in (data.train, data.val)]
    train_mean, val_mean = [float((x.sigmoid() if kind == "probability" else x).mean()) for x in outputs]
    assert events.Scalars(f"{kind}/train_minus_validation")[-1].value == pytest.approx(train_mean - val_mean, abs=1e-5)


def test_logits_are_in_evaluation_mode_and_of_every_image(train: Train) -> None:
    gan = tiny_gan()
    images = train(gan=gan).datamodule.val
    gan.train()
    assert torch.equal(logits(gan, images), logits(gan, images))
    assert logits(gan, images).shape == (10,)
    assert gan.discriminator.training


def test_arguments() -> None:
    with pytest.raises(ValueError, match=r"^num_images=0: must be at least 1"):
        DiscriminatorOutputs(num_images=0, seed=0)

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.callbacks.start_from_mean import StartFromMean
from gan_lightning.data.images import InMemoryImages, normalize
from gan_lightning.errors import InputError


class Generator(nn.Module):
    mean: Tensor | None = None

    def start_from_mean(self, mean: Tensor) -> None:
        self.mean = mean


def start(generator: nn.Module, ema: Any = None, step: int = 0) -> InMemoryImages:
    images = torch.randint(256, (1500, 1, 2, 2), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    train = InMemoryImages(images, torch.zeros(1500))
    trainer = SimpleNamespace(global_step=step, datamodule=SimpleNamespace(train=train))
    gan = SimpleNamespace(generator=generator, ema=ema, device=torch.device("cpu"))
    StartFromMean().on_train_start(trainer, gan)  # type: ignore[arg-type]
    return train


def test_generator_and_ema_get_the_mean_image() -> None:
    generator, ema = Generator(), SimpleNamespace(network=Generator())
    train = start(generator, ema)
    for network in (generator, ema.network):
        torch.testing.assert_close(network.mean, normalize(train.images).mean(0))


def test_a_resumed_run_is_not_changed() -> None:
    generator = Generator()
    start(generator, step=1)
    assert generator.mean is None


def test_the_generator_needs_the_method() -> None:
    with pytest.raises(InputError, match=r"^callbacks\.start_from_mean: must be null, .*Linear"):
        start(nn.Linear(1, 1))

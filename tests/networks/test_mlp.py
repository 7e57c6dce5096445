import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from gan_lightning.networks.mlp import Discriminator, Generator
from gan_lightning.run.config import compose


@pytest.fixture
def generator() -> Generator:
    return instantiate(compose("train").model.generator, _convert_="all")


@pytest.fixture
def discriminator() -> Discriminator:
    return instantiate(compose("train").model.discriminator, _convert_="all")


def test_generator_is_the_articles_layer_for_layer(generator: Generator) -> None:
    expected: list[nn.Module] = [nn.Linear(100, 128), nn.LeakyReLU(0.2, True)]
    for before, after in ((128, 256), (256, 512), (512, 1024)):
        expected += [nn.Linear(before, after), nn.BatchNorm1d(after, 0.8), nn.LeakyReLU(0.2, True)]
    expected += [nn.Linear(1024, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28))]
    assert [repr(layer) for layer in generator.layers] == [repr(layer) for layer in expected]


def test_discriminator_is_the_articles_without_its_sigmoid(discriminator: Discriminator) -> None:
    expected = [
        nn.Flatten(),
        nn.Linear(784, 512),
        nn.LeakyReLU(0.2, True),
        nn.Linear(512, 256),
        nn.LeakyReLU(0.2, True),
        nn.Linear(256, 1),
    ]
    assert [repr(layer) for layer in discriminator.layers] == [repr(layer) for layer in expected]


def test_shapes_and_ranges(generator: Generator, discriminator: Discriminator) -> None:
    images = generator(torch.randn(16, 100) * 5)
    assert images.shape == (16, 1, 28, 28)
    assert images.abs().max() <= 1
    assert discriminator(images).shape == (16, 1)

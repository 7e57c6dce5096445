from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning.networks.dcgan import Discriminator, Generator
from gan_lightning.networks.pyramid import channels, resolutions


def generator(**changes: Any) -> Generator:
    arguments: dict[str, Any] = {"latent_dim": 100, "image_shape": [3, 64, 64], "width": 128, "max_width": 1024}
    return Generator(**arguments | {"weight_init": "dcgan"} | changes)


def discriminator(**changes: Any) -> Discriminator:
    arguments: dict[str, Any] = {"image_shape": [3, 64, 64], "width": 128, "max_width": 1024, "negative_slope": 0.2}
    return Discriminator(**arguments | {"weight_init": "dcgan"} | changes)


def convolutions(network: nn.Module) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ((28, 28), [(28, 28), (14, 14), (7, 7)]),
        ((32, 32), [(32, 32), (16, 16), (8, 8), (4, 4)]),
        ((48, 64), [(48, 64), (24, 32), (12, 16), (6, 8)]),
        ((33, 47), [(33, 47), (16, 23), (8, 11), (4, 5)]),
        ((8, 9), [(8, 9), (4, 4)]),
    ],
)
def test_resolutions(sides: tuple[int, int], expected: list[tuple[int, int]]) -> None:
    assert resolutions([1, *sides]) == expected
    assert resolutions([3, *sides[::-1]]) == [size[::-1] for size in expected]


@pytest.mark.parametrize("image_shape", [[784], [28, 28], [1, 1, 28, 28]])
def test_shapes_that_are_not_an_images(image_shape: list[int]) -> None:
    with pytest.raises(ValueError, match="must be channels, height and width"):
        resolutions(image_shape)


def test_channels_double_up_to_a_maximum() -> None:
    assert channels(32, 100, 4) == [32, 64, 100, 100]


def test_sizes_are_the_published_ones() -> None:
    with torch.device("meta"):
        g, d = generator(), discriminator(batch_norm=True)
    assert [(c.in_channels, c.out_channels) for c in convolutions(g)] == [(1024, 512), (512, 256), (256, 128), (128, 3)]
    assert (g.linear.in_features, g.linear.out_features) == (100, 1024 * 4 * 4)
    assert [(c.in_channels, c.out_channels) for c in convolutions(d)] == [(3, 128), (128, 256), (256, 512), (512, 1024)]
    assert {(c.kernel_size, c.stride) for n in (g, d) for c in convolutions(n)} == {((4, 4), (2, 2))}
    kinds = [type(layer).__name__ for layer in d.layers]
    assert kinds == ["Conv2d", "LeakyReLU", *3 * ["Conv2d", "BatchNorm2d", "LeakyReLU"], "Flatten", "Linear"]
    assert [type(layer).__name__ for layer in g.layers] == [
        *4 * ["BatchNorm2d", "ReLU", "ConvTranspose2d"],
        "Tanh",
    ]


def test_published_initialization() -> None:
    torch.manual_seed(0)
    for network in (generator(width=32), discriminator(width=32, batch_norm=True, num_classes=10)):
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
                mean = float(isinstance(module, nn.BatchNorm2d))
                error = 4 * 0.02 / module.weight.numel() ** 0.5
                assert module.weight.mean().item() == pytest.approx(mean, abs=error)
                assert module.weight.std().item() == pytest.approx(0.02, abs=error)
                assert module.bias is None or not module.bias.any()


def test_torchs_initialization() -> None:
    torch.manual_seed(0)
    network = discriminator(weight_init="default", width=32, batch_norm=True)
    for layer in convolutions(network):
        bound = layer.weight[0].numel() ** -0.5  # U(-1/√n, 1/√n) of n inputs
        assert 0.99 * bound < layer.weight.abs().max() <= bound
    assert all((m.weight == 1).all() for m in network.modules() if isinstance(m, nn.BatchNorm2d))


def test_batch_norm_is_an_option_of_the_discriminator() -> None:
    assert not any(isinstance(module, nn.BatchNorm2d) for module in discriminator(width=4).modules())
    network, images = discriminator(width=4, batch_norm=True), torch.rand(4, 3, 64, 64)
    assert not torch.allclose(network(images)[:2], network(images[:2]))  # depends on the other images
    torch.testing.assert_close(network.eval()(images)[:2], network(images[:2]))

import math
from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning.networks.resnet import Block, Discriminator, Generator, convolution


def discriminator(**changes: Any) -> Discriminator:
    arguments: dict[str, Any] = {"image_shape": [1, 28, 28], "width": 8, "max_width": 16, "blocks": 3}
    return Discriminator(**arguments | {"negative_slope": 0.2} | changes)


def generator(**changes: Any) -> Generator:
    arguments: dict[str, Any] = {"latent_dim": 5, "image_shape": [1, 28, 28], "width": 8, "max_width": 16, "blocks": 3}
    return Generator(**arguments | {"negative_slope": 0.2} | changes)


def blocks(network: nn.Module) -> list[Block]:
    return [module for module in network.modules() if isinstance(module, Block)]


@pytest.mark.parametrize("network", [generator(), discriminator()], ids=["generator", "discriminator"])
def test_blocks_are_the_identity_at_first(network: nn.Module) -> None:
    assert len(blocks(network)) == 6  # at 14 x 14 and 7 x 7
    for block in blocks(network):
        x = torch.randn(2, block.layers[0].in_channels, 5, 6)
        assert torch.equal(block(x), x)
        nn.init.ones_(block.layers[-1].weight)
        assert not torch.allclose(block(x), x)


def test_the_other_layers_are_scaled_by_the_number_of_blocks() -> None:
    torch.manual_seed(0)
    block = Block(64, negative_slope=0.2, blocks=16)
    for layer, inputs in ((block.layers[0], 64), (block.layers[2], 64 * 9)):
        std = math.sqrt(2 / (1 + 0.2**2) / inputs) * 16 ** (-1 / 4)
        assert layer.weight.std().item() == pytest.approx(std, rel=0.05)
    torch.manual_seed(0)
    made = generator(width=32, max_width=32, blocks=4)
    found = torch.cat([block.layers[2].weight.flatten() for block in blocks(made)]).std().item()
    assert found == pytest.approx(math.sqrt(2 / (1 + 0.2**2) / (32 * 9)) * 8 ** (-1 / 4), rel=0.02)  # of 2 x 4 blocks


def test_with_spectral_normalization_blocks_are_not_the_identity() -> None:
    network = discriminator(spectral_norm=True)
    assert all(block.layers[-1].weight.isfinite().all() for block in blocks(network))
    assert all(block.layers[-1].weight.any() for block in blocks(network))


def test_there_is_no_normalization() -> None:
    names = {type(module).__name__ for network in (generator(), discriminator()) for module in network.modules()}
    assert not any("Norm" in name for name in names)


def test_a_convolution_multiplies_the_standard_deviation() -> None:
    torch.manual_seed(0)
    layer = convolution(64, 3, gain=3.0, bias=True)
    x = torch.randn(20, 64, 12, 12)
    assert layer(x)[..., 1:-1, 1:-1].std().item() == pytest.approx(3.0, rel=0.05)  # the border has zeros beyond it
    assert not layer.bias.any()


def test_changes_of_resolution_keep_the_standard_deviation() -> None:
    torch.manual_seed(0)
    networks = generator(width=64, max_width=64), discriminator(width=64, max_width=64)
    strided = [m for network in networks for m in network.layers if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert [layer.in_channels for layer in strided] == [64, 64, 1, 64]
    for layer in strided:
        pixels = layer(torch.randn(50, layer.in_channels, 14, 14))[..., 1:-1, 1:-1]  # the border has zeros beyond it
        assert pixels.std(dim=(0, 2, 3)).square().mean().sqrt().item() == pytest.approx(1, rel=0.15)


def test_odd_sizes() -> None:
    images = generator(image_shape=[2, 11, 19])(torch.randn(3, 5)).requires_grad_()
    assert images.shape == (3, 2, 11, 19)
    (gradient,) = torch.autograd.grad(discriminator(image_shape=[2, 11, 19])(images).sum(), images)
    assert (gradient != 0).all()  # every pixel counts

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gan_lightning.gan import GAN
from gan_lightning.networks.linear import Linear
from gan_lightning.sampling import Tanh, draw, folded, show, walk
from tests.helpers import tiny_gan


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 30), st.integers(1, 12))
def test_draws_as_many_as_asked_and_a_shorter_draw_is_a_beginning(n: int, batch_size: int) -> None:
    gan = tiny_gan()
    images = torch.cat(list(draw(gan, n, seed=3, batch_size=batch_size)))
    assert images.shape == (n, 1, 4, 4)
    longer = torch.cat(list(draw(gan, n + 5, seed=3, batch_size=batch_size)))
    torch.testing.assert_close(images, longer[:n])


def test_seed_decides_and_nothing_else_is_touched() -> None:
    gan = tiny_gan().train()
    state = torch.get_rng_state()
    a, b, c = (torch.cat(list(draw(gan, 7, seed=seed))) for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), state)
    assert gan.generator.training


def test_a_walk_is_a_straight_line_in_z() -> None:
    gan = tiny_gan()
    gan.generator = torch.nn.Unflatten(1, (1, 1, 3))  # shows z itself
    images = walk(gan, 2, steps=5, seed=0).view(2, 5, 3)
    steps = images[:, 1:] - images[:, :-1]
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps))
    assert steps.norm() > 0


def test_the_average_is_what_is_shown() -> None:
    gan = tiny_gan(average=lambda network: torch.nn.Unflatten(1, (1, 1, 3)))
    z = torch.randn(4, 3)
    assert torch.equal(show(gan, z).flatten(1), z)


def test_a_gan_with_a_forward_of_its_own_is_drawn_from_by_it() -> None:
    class Negative(GAN):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return -super().forward(z)

    positive, negative = (next(draw(tiny_gan(kind), 5, seed=0)) for kind in (GAN, Negative))
    assert torch.equal(negative, -positive)


def test_every_layer_goes_back_to_its_mode() -> None:
    gan = tiny_gan().train()
    gan.generator.layers[3].eval()
    before = [layer.training for layer in gan.modules()]
    show(gan, torch.randn(2, 3))
    next(draw(gan, 2, seed=0))
    assert [layer.training for layer in gan.modules()] == before
    assert before.count(False) == 1


def test_what_a_hook_keeps_is_no_obstacle() -> None:
    gan, kept = tiny_gan().train(), []
    gan.generator.layers[3].register_forward_hook(lambda module, inputs, output: kept.append(output))
    gan.generator(torch.randn(4, 3))
    assert len(list(draw(gan, 4, seed=0))) == 1
    assert len(kept) == 2


def test_batch_norm_uses_what_it_learnt() -> None:
    gan = tiny_gan().train()
    one = torch.cat(list(draw(gan, 1, seed=0)))
    many = torch.cat(list(draw(gan, 50, seed=0)))
    torch.testing.assert_close(one, many[:1])


def learnt(*layers: nn.Module) -> nn.Sequential:
    """Put layers in a row that have seen a few batches, and go on to train."""
    network = nn.Sequential(*layers)
    for _ in range(5):
        network(2 + 3 * torch.randn(16, 3))
    return network


def test_folded_layers_are_fewer_and_give_the_same() -> None:
    layers = learnt(
        *(Linear(3, 5), nn.LeakyReLU(0.2), Linear(5, 4), nn.BatchNorm1d(4), nn.LeakyReLU(0.2)),
        *(Linear(4, 2), nn.BatchNorm1d(2), nn.Tanh()),
    )
    before = copy.deepcopy(layers.state_dict())
    fewer = folded(layers)
    assert [type(layer) for layer in fewer] == [Linear, nn.LeakyReLU, Linear, nn.LeakyReLU, Linear, Tanh]
    z = 3 * torch.randn(1000, 3)
    images = fewer.eval()(z)
    assert all(torch.equal(value, before[name]) for name, value in layers.state_dict().items())
    torch.testing.assert_close(images, layers.eval()(z), atol=1e-6, rtol=1e-5)


class Norm(nn.BatchNorm1d): ...


class OwnTanh(nn.Tanh): ...


def with_hook(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, inputs, output: output / 2)
    return layer


@pytest.mark.parametrize(
    "layers",
    [
        lambda: (Linear(3, 4), nn.BatchNorm1d(4, affine=False)),
        lambda: (Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False)),
        lambda: (Linear(3, 4), Norm(4)),
        lambda: (Linear(3, 4), OwnTanh()),
        lambda: (nn.BatchNorm1d(3),),
        lambda: (Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4)),
        lambda: (nn.utils.parametrizations.spectral_norm(Linear(3, 4)), nn.BatchNorm1d(4)),
        lambda: (nn.utils.spectral_norm(Linear(3, 4)), nn.BatchNorm1d(4)),
        lambda: (Linear(3, 4), with_hook(nn.BatchNorm1d(4)), nn.Tanh()),
    ],
    ids=["not affine", "no statistics", "norm", "tanh", "first", "apart", "spectral norm", "old spectral norm", "hook"],
)
def test_what_is_not_folded(layers: Callable[[], tuple[nn.Module, ...]]) -> None:
    network = learnt(*layers())
    assert list(folded(network)) == list(network)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_tanh_is_torchs_in_other_precisions(dtype: torch.dtype) -> None:
    x = torch.linspace(-3, 3, 99, dtype=dtype)
    assert torch.equal(Tanh()(x), x.tanh())

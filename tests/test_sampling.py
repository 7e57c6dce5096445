import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gan_lightning.gan import GAN
from gan_lightning.networks.linear import Linear
from gan_lightning.sampling import Tanh, draw, for_inference, show, walk
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


def test_batch_norm_uses_what_it_learnt() -> None:
    gan = tiny_gan().train()
    one = torch.cat(list(draw(gan, 1, seed=0)))
    many = torch.cat(list(draw(gan, 50, seed=0)))
    torch.testing.assert_close(one, many[:1])


def sequential(*layers: nn.Module) -> nn.Sequential:
    """Put layers in a row that have seen a few batches."""
    network = nn.Sequential(*layers).train()
    for _ in range(5):
        network(2 + 3 * torch.randn(16, 3))
    return network


def test_inference_has_fewer_layers_and_the_same_images() -> None:
    network = sequential(
        nn.Linear(3, 5), nn.BatchNorm1d(5), nn.LeakyReLU(0.2), Linear(5, 4, bias=False), nn.BatchNorm1d(4), nn.Tanh()
    )
    before = copy.deepcopy(network.state_dict())
    z, lean = 3 * torch.randn(1000, 3), for_inference(network)
    assert [type(layer) for layer in lean] == [nn.Linear, nn.Identity, nn.LeakyReLU, Linear, nn.Identity, Tanh]
    images = lean(z)
    assert network[1].training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    torch.testing.assert_close(images, network.eval()(z), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: (nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False)),
        lambda: (nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False)),
        lambda: (nn.utils.weight_norm(nn.Linear(3, 4)), nn.BatchNorm1d(4)),
        lambda: (nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.BatchNorm1d(4)),
        lambda: (nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4)),
    ],
    ids=["not affine", "no statistics", "old weight norm", "weight norm", "not after the linear layer"],
)
def test_inference_leaves_what_it_cannot_do_without(layers: Callable[[], tuple[nn.Module, ...]]) -> None:
    network = sequential(*layers())
    z = torch.randn(10, 3)
    lean = for_inference(network)
    assert isinstance(lean[-1], nn.BatchNorm1d)
    torch.testing.assert_close(lean(z), network.eval()(z))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_tanh_is_torchs_in_other_precisions(dtype: torch.dtype) -> None:
    x = torch.linspace(-3, 3, 99, dtype=dtype)
    assert torch.equal(Tanh()(x), x.tanh())


def test_inference_leaves_its_input_alone() -> None:
    z = torch.randn(10, 3)
    before = z.clone()
    for_inference(nn.Sequential(nn.Dropout(), nn.Tanh()))(z)
    assert torch.equal(z, before)

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning.optimizers import Adam

SHAPES = [(7, 5), (5,), (300, 200)]


def copies(n: int) -> list[list[nn.Parameter]]:
    parameters = [nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    return [copy.deepcopy(parameters) for _ in range(n)]


def ours_and_torchs(**options: Any) -> tuple[list[torch.optim.Adam], list[list[nn.Parameter]]]:
    parameters = copies(2)
    return [make(mine, **options) for make, mine in zip((Adam, torch.optim.Adam), parameters, strict=True)], parameters


def descend(
    optimizers: Sequence[torch.optim.Adam], parameters: Sequence[list[nn.Parameter]], steps: int, missing: int = -1
) -> None:
    for _ in range(steps):
        gradients = [torch.randn_like(p) for p in parameters[0]]
        for optimizer, mine in zip(optimizers, parameters, strict=True):
            for i, (p, gradient) in enumerate(zip(mine, gradients, strict=True)):
                p.grad = None if i == missing else gradient.clone()
            optimizer.step()
            for group in optimizer.param_groups:
                group["lr"] *= 0.9


def assert_equal(optimizers: Sequence[torch.optim.Adam], parameters: Sequence[list[nn.Parameter]]) -> None:
    for one, other in zip(*parameters, strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(optimizers[0].state_dict(), optimizers[1].state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"fused": True},
        {"fused": True, "weight_decay": 0.1, "betas": (0.0, 0.99), "eps": 1e-3},
        {"fused": True, "amsgrad": True},
        {"fused": True, "maximize": True},
        {"fused": True, "weight_decay": 0.1, "decoupled_weight_decay": True},
        {"fused": False},
    ],
)
def test_is_torch_s_to_the_bit(options: dict[str, Any]) -> None:
    optimizers, parameters = ours_and_torchs(**options)
    descend(optimizers, parameters, 5)
    assert_equal(optimizers, parameters)


def test_gathers_what_is_fused_and_plain() -> None:
    for options, gathers in (({"fused": True}, True), ({"fused": True, "amsgrad": True}, False), ({}, False)):
        (parameters,) = copies(1)
        optimizer = Adam(parameters, **options)
        descend([optimizer], [parameters], 1)
        assert (optimizer.gathered is not None) == gathers


def test_a_parameter_without_gradient_stays_and_its_steps_are_not_counted() -> None:
    optimizers, parameters = ours_and_torchs(fused=True)
    for missing in (1, -1, 0, -1):
        descend(optimizers, parameters, 2, missing)
        assert_equal(optimizers, parameters)
    assert [optimizers[0].state[p]["step"].item() for p in parameters[0]] == [6, 6, 8]


@pytest.mark.parametrize("makes", [(Adam, torch.optim.Adam), (torch.optim.Adam, Adam)])
def test_goes_on_from_torch_s_state_and_torch_from_its(makes: tuple[type[torch.optim.Adam], ...]) -> None:
    (first,) = copies(1)
    optimizer = makes[0](first, fused=True)
    descend([optimizer], [first], 3)
    second = copy.deepcopy(first)
    other = makes[1](second, fused=True)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    descend([optimizer, other], [first, second], 3)
    assert_equal([optimizer, other], [first, second])


def test_a_state_loaded_later_is_followed() -> None:
    optimizers, parameters = ours_and_torchs(fused=True)
    kept = copy.deepcopy(optimizers[1].state_dict())
    descend(optimizers, parameters, 3)
    for optimizer in optimizers:
        optimizer.load_state_dict(copy.deepcopy(kept))
    descend(optimizers, parameters, 3)
    assert_equal(optimizers, parameters)


def test_takes_further_parameters_at_a_rate_of_their_own() -> None:
    parameters = copies(2)
    optimizers = [make(mine[:1], fused=True) for make, mine in zip((Adam, torch.optim.Adam), parameters, strict=True)]
    descend(optimizers, parameters, 2)
    for optimizer, mine in zip(optimizers, parameters, strict=True):
        optimizer.add_param_group({"params": mine[1:], "lr": 0.1})
    descend(optimizers, parameters, 2)
    assert_equal(optimizers, parameters)


def test_calls_the_closure_with_gradients_on_and_gives_its_loss() -> None:
    x = nn.Parameter(torch.ones(2))
    optimizer = Adam([x], lr=0.1, fused=True)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = x.square().sum()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(3)]
    assert losses == pytest.approx([2.0, 1.62, 1.28], abs=0.01)


def test_leaves_a_scaled_gradient_to_torch() -> None:
    x = nn.Parameter(torch.ones(2))
    optimizer = Adam([x], lr=0.1, fused=True)
    for found, expected in ((0.0, 0.9), (1.0, 0.9), (0.0, 0.8)):
        x.grad = torch.full((2,), 8.0)
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(4.0), torch.tensor(found)
        optimizer.step()
        assert x.tolist() == pytest.approx([expected] * 2, abs=1e-3)

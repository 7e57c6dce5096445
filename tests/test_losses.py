import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gan_lightning.losses import Minimax, NonSaturating, Relativistic

logits = st.lists(st.floats(-15, 15), min_size=1, max_size=8).map(
    lambda values: torch.tensor(values, dtype=torch.float64).unsqueeze(1)
)
LOSSES = [Minimax(), NonSaturating()]


def d(logits: Tensor) -> Tensor:
    """Return D(x), written out as the paper has it."""
    return 1 / (1 + torch.exp(-logits))


@pytest.mark.parametrize("loss", LOSSES)
@given(real=logits, fake=logits)
def test_discriminator_loss_is_the_papers(loss: Any, real: Tensor, fake: Tensor) -> None:
    expected = (-torch.log(d(real))).mean() + (-torch.log(1 - d(fake))).mean()
    torch.testing.assert_close(loss.discriminator(real, fake), expected, rtol=1e-6, atol=1e-9)


@given(fake=logits)
def test_minimax_generator_loss_is_the_papers(fake: Tensor) -> None:
    torch.testing.assert_close(Minimax().generator(fake), torch.log(1 - d(fake)).mean(), rtol=1e-6, atol=1e-9)


@given(fake=logits)
def test_non_saturating_generator_loss_is_the_papers(fake: Tensor) -> None:
    torch.testing.assert_close(NonSaturating().generator(fake), -torch.log(d(fake)).mean(), rtol=1e-6, atol=1e-9)


@given(pairs=st.lists(st.tuples(st.floats(-15, 15), st.floats(-15, 15)), min_size=1, max_size=8))
def test_relativistic_is_the_papers(pairs: list[tuple[float, float]]) -> None:
    real, fake = torch.tensor(pairs, dtype=torch.float64).unsqueeze(2).unbind(1)
    loss = Relativistic()
    expected = -torch.log(d(real - fake)).mean(), -torch.log(d(fake - real)).mean()
    torch.testing.assert_close(loss.discriminator(real, fake), expected[0], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(loss.generator(fake, real), expected[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("loss", [*LOSSES, Relativistic()])
@pytest.mark.parametrize("logit", [-100.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_finite_at_extreme_logits(loss: Any, logit: float, dtype: torch.dtype) -> None:
    real, fake = (torch.full((4, 1), sign * logit, dtype=dtype, requires_grad=True) for sign in (1, -1))
    others = [real] if getattr(loss, "needs_real_logits", False) else []
    for value in (loss.discriminator(real, fake), loss.generator(fake, *others)):
        gradients = torch.autograd.grad(value, [real, fake], allow_unused=True, retain_graph=True)
        assert torch.isfinite(value)
        assert all(torch.isfinite(g).all() for g in gradients if g is not None)


def test_equilibrium_is_log_4() -> None:
    zeros = torch.zeros(5, 1)
    assert Minimax().discriminator(zeros, zeros).item() == pytest.approx(math.log(4))


def test_gradients_when_the_discriminator_is_certain() -> None:
    """The minimax loss saturates on rejected images; the heuristic does not (section 3 of the paper)."""
    slopes = []
    for loss in LOSSES:
        fake = torch.tensor([[-10.0]], requires_grad=True)
        loss.generator(fake).backward()
        assert fake.grad is not None
        slopes.append(abs(fake.grad.item()))
    assert slopes[0] < 1e-4
    assert slopes[1] > 0.99

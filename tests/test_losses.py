import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gan_lightning.losses import (
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Relativistic,
    RelativisticAverage,
    Wasserstein,
)

logits = st.lists(st.floats(-15, 15), min_size=1, max_size=8).map(
    lambda values: torch.tensor(values, dtype=torch.float64).unsqueeze(1)
)
LOSSES = [Minimax(), NonSaturating()]
SMOOTHED = NonSaturating(label_smoothing=0.1)
RELATIVISTIC = [Relativistic(), RelativisticAverage()]
ALL = [*LOSSES, SMOOTHED, LeastSquares(), Hinge(), Wasserstein(), *RELATIVISTIC]


def named(values: list[Any]) -> list[Any]:
    """Return losses as parameters with names."""
    return [pytest.param(loss, id=type(loss).__name__ + ("Smoothed" if loss is SMOOTHED else "")) for loss in values]


def close(value: Tensor, expected: Tensor | float) -> None:
    torch.testing.assert_close(value, torch.as_tensor(expected, dtype=value.dtype), rtol=1e-6, atol=1e-9)


def generator_loss(loss: Any, fake: Tensor, real: Tensor) -> Tensor:
    return loss.generator(fake, *([real] if getattr(loss, "needs_real_logits", False) else []))


def d(logits: Tensor) -> Tensor:
    """Return D(x), written out as the paper has it."""
    return 1 / (1 + torch.exp(-logits))


@pytest.mark.parametrize("loss", LOSSES)
@given(real=logits, fake=logits)
def test_discriminator_loss_is_the_papers(loss: Any, real: Tensor, fake: Tensor) -> None:
    close(loss.discriminator(real, fake), (-torch.log(d(real))).mean() + (-torch.log(1 - d(fake))).mean())


@given(fake=logits)
def test_minimax_generator_loss_is_the_papers(fake: Tensor) -> None:
    close(Minimax().generator(fake), torch.log(1 - d(fake)).mean())


@given(fake=logits, smoothing=st.floats(0, 0.99))
def test_non_saturating_generator_loss_is_the_papers(fake: Tensor, smoothing: float) -> None:
    close(NonSaturating(label_smoothing=smoothing).generator(fake), -torch.log(d(fake)).mean())


@given(real=logits, fake=logits, smoothing=st.floats(0, 0.99))
def test_label_smoothing_is_the_cross_entropy_with_smooth_targets(real: Tensor, fake: Tensor, smoothing: float) -> None:
    on_real = -(1 - smoothing) * torch.log(d(real)) - smoothing * torch.log(1 - d(real))
    on_fake = -torch.log(1 - d(fake))  # one-sided: the target stays 0
    close(NonSaturating(label_smoothing=smoothing).discriminator(real, fake), on_real.mean() + on_fake.mean())


def test_label_smoothing_has_its_optimum_at_the_smooth_target() -> None:
    real = torch.tensor([[math.log(0.9 / 0.1)]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(SMOOTHED.discriminator(real, real.detach()), real)
    assert gradient.item() == pytest.approx(0, abs=1e-12)


@given(real=logits, fake=logits)
def test_least_squares_is_the_papers(real: Tensor, fake: Tensor) -> None:
    loss = LeastSquares()
    close(loss.discriminator(real, fake), 0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake**2).mean())
    close(loss.generator(fake), 0.5 * ((fake - 1) ** 2).mean())


@given(real=logits, fake=logits)
def test_hinge_is_the_papers(real: Tensor, fake: Tensor) -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    value = torch.minimum(zero, -1 + real).mean() + torch.minimum(zero, -1 - fake).mean()  # D maximizes it
    close(Hinge().discriminator(real, fake), -value)
    close(Hinge().generator(fake), -fake.mean())


@given(real=logits, fake=logits)
def test_wasserstein_is_the_papers(real: Tensor, fake: Tensor) -> None:
    value = sum(real.flatten().tolist()) / len(real) - sum(fake.flatten().tolist()) / len(fake)  # D maximizes it
    close(Wasserstein().discriminator(real, fake), -value)
    close(Wasserstein().generator(fake), -fake.mean())


@given(pairs=st.lists(st.tuples(st.floats(-15, 15), st.floats(-15, 15)), min_size=1, max_size=8))
def test_relativistic_is_the_papers(pairs: list[tuple[float, float]]) -> None:
    real, fake = torch.tensor(pairs, dtype=torch.float64).unsqueeze(2).unbind(1)
    loss = Relativistic()
    close(loss.discriminator(real, fake), -torch.log(d(real - fake)).mean())
    close(loss.generator(fake, real), -torch.log(d(fake - real)).mean())


@given(real=logits, fake=logits)
def test_relativistic_average_is_the_papers(real: Tensor, fake: Tensor) -> None:
    more_real, less_real = d(real - fake.mean()), d(fake.mean() - real)  # 1 - more_real would lose digits
    more_fake, less_fake = d(fake - real.mean()), d(real.mean() - fake)
    loss = RelativisticAverage()
    close(loss.discriminator(real, fake), -torch.log(more_real).mean() - torch.log(less_fake).mean())
    close(loss.generator(fake, real), -torch.log(more_fake).mean() - torch.log(less_real).mean())


@given(real=st.floats(-15, 15), fake=st.floats(-15, 15), n=st.integers(1, 4))
def test_relativistic_losses_agree_on_equal_images(real: float, fake: float, n: int) -> None:
    """Up to the factor of 2 of two terms in place of one."""
    r, f = (torch.full((n, 1), value, dtype=torch.float64) for value in (real, fake))
    pairing, average = RELATIVISTIC
    close(average.discriminator(r, f), 2 * pairing.discriminator(r, f))
    close(average.generator(f, r), 2 * pairing.generator(f, r))


@pytest.mark.parametrize("loss", named(RELATIVISTIC))
@given(pairs=st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=8), shift=st.floats(-9, 9))
def test_relativistic_losses_depend_on_differences_only(
    loss: Any, pairs: list[tuple[float, float]], shift: float
) -> None:
    real, fake = torch.tensor(pairs, dtype=torch.float64).unsqueeze(2).unbind(1)
    close(loss.discriminator(real + shift, fake + shift), loss.discriminator(real, fake))
    close(loss.generator(fake + shift, real + shift), loss.generator(fake, real))
    close(loss.generator(fake, real), loss.discriminator(fake, real))  # the two networks' roles are symmetric


@pytest.mark.parametrize("loss", named(ALL))
def test_gradients_point_the_right_way(loss: Any) -> None:
    """D raises the logits of real images and lowers those of generated ones, which G raises."""
    torch.manual_seed(0)
    real, fake = (torch.empty(50, 1, dtype=torch.float64).uniform_(0, 1).requires_grad_() for _ in range(2))
    d_real, d_fake = torch.autograd.grad(loss.discriminator(real, fake), [real, fake])
    (g_fake,) = torch.autograd.grad(generator_loss(loss, fake, real), fake)
    assert (d_real < 0).all()
    assert (d_fake > 0).all()
    assert (g_fake < 0).all()


@pytest.mark.parametrize("loss", named(ALL))
def test_the_mean_over_the_images_is_taken(loss: Any) -> None:
    torch.manual_seed(0)
    real, fake = torch.randn(2, 6, 1, dtype=torch.float64)
    close(loss.discriminator(real.repeat(3, 1), fake.repeat(3, 1)), loss.discriminator(real, fake))
    close(generator_loss(loss, fake.repeat(3, 1), real.repeat(3, 1)), generator_loss(loss, fake, real))


@pytest.mark.parametrize("loss", named(ALL))
@pytest.mark.parametrize("logit", [-100.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_finite_and_right_at_extreme_logits(loss: Any, logit: float, dtype: torch.dtype) -> None:
    real, fake = (torch.full((4, 1), sign * logit, dtype=dtype, requires_grad=True) for sign in (1, -1))
    exact_real, exact_fake = (x.detach().double().requires_grad_() for x in (real, fake))
    for value, exact in (
        (loss.discriminator(real, fake), loss.discriminator(exact_real, exact_fake)),
        (generator_loss(loss, fake, real), generator_loss(loss, exact_fake, exact_real)),
    ):
        torch.testing.assert_close(value.double(), exact, rtol=0.01, atol=1e-6)
        gradients = torch.autograd.grad(value, [real, fake], allow_unused=True)
        expected = torch.autograd.grad(exact, [exact_real, exact_fake], allow_unused=True)
        for gradient, wanted in zip(gradients, expected, strict=True):
            if wanted is not None:
                assert gradient is not None
                torch.testing.assert_close(gradient.double(), wanted, rtol=0.01, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "logit", "value"),
    [
        (Minimax(), 0.0, math.log(4)),
        (LeastSquares(), 0.5, 1 / 4),
        (Hinge(), 0.0, 2.0),
        (Wasserstein(), 3.0, 0.0),
        (Relativistic(), 3.0, math.log(2)),
        (RelativisticAverage(), 3.0, math.log(4)),
    ],
)
def test_equilibrium(loss: Any, logit: float, value: float) -> None:
    """If both kinds of images are the same, this logit is the best for D, with the known value of its loss."""
    equal = torch.full((5, 1), logit, dtype=torch.float64, requires_grad=True)
    best = loss.discriminator(equal, equal)
    assert best.item() == pytest.approx(value)
    assert torch.autograd.grad(best, equal)[0].abs().max() < 1e-12


def test_hinge_ignores_what_is_beyond_the_margin() -> None:
    real, fake = torch.tensor([[1.5], [0.5]], requires_grad=True), torch.tensor([[-1.5], [-0.5]], requires_grad=True)
    gradients = torch.autograd.grad(Hinge().discriminator(real, fake), [real, fake])
    assert [g.flatten().tolist() for g in gradients] == [[0, -0.5], [0, 0.5]]


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


def test_flags() -> None:
    def having(flag: str) -> set[type]:
        return {type(loss) for loss in ALL if getattr(loss, flag, False)}

    assert having("needs_real_logits") == {Relativistic, RelativisticAverage}
    assert having("gives_probabilities") == {Minimax, NonSaturating}
    assert having("needs_lipschitz") == {Wasserstein}

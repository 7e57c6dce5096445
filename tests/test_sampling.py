from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gan_lightning.gan import GAN
from gan_lightning.losses import NonSaturating, Relativistic
from gan_lightning.sampling import discriminator_map, generate, interpolate, sample
from tests.helpers import Unconditional, tiny_gan


def noise_as_image(*_: Any) -> Unconditional:
    """Build a generator whose images are its noise."""
    return Unconditional(nn.Unflatten(1, (1, 1, 3)))


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 30), st.integers(1, 12))
def test_fewer_images_are_the_first_of_more(n: int, batch_size: int) -> None:
    gan = tiny_gan()
    images = torch.cat(list(sample(gan, n, seed=3, batch_size=batch_size)))
    assert images.shape == (n, 1, 4, 4)
    more = torch.cat(list(sample(gan, n + 5, seed=3, batch_size=batch_size)))
    torch.testing.assert_close(images, more[:n])


def test_the_seed_determines_the_images_and_nothing_else_changes() -> None:
    gan = tiny_gan().train()
    state = torch.get_rng_state()
    a, b, c = (torch.cat(list(sample(gan, 7, seed=seed))) for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), state)
    assert gan.generator.training


def test_interpolation_is_along_straight_lines() -> None:
    images = interpolate(tiny_gan(ema=noise_as_image), 2, steps=5, seed=0).view(2, 5, 3)
    steps = images[:, 1:] - images[:, :-1]
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps))
    assert steps.norm() > 0


def test_images_are_generated_by_the_ema() -> None:
    gan = tiny_gan(ema=noise_as_image)
    z = torch.randn(4, 3)
    assert torch.equal(generate(gan, z).flatten(1), z)


def test_labels_reach_the_generator() -> None:
    class Labeled(nn.Module):
        def forward(self, z: Tensor, labels: Tensor) -> Tensor:
            return labels.view(-1, 1, 1, 1) + 0 * z.view(-1, 1, 1, 3)

    gan, labels = tiny_gan(ema=lambda network: Labeled()), torch.tensor([1.0, 0.0])
    assert torch.equal(generate(gan, torch.randn(2, 3), labels)[:, 0, 0, 0], labels)


def label_as_image(*_: Any) -> nn.Module:
    """Build a generator whose images are one pixel, the label."""

    class Labeled(nn.Module):
        def forward(self, z: Tensor, labels: Tensor) -> Tensor:
            return labels.view(-1, 1, 1, 1).to(z) + 0 * z[:, :1].view(-1, 1, 1, 1)

    return Labeled()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (None, [0, 1, 2, 3, 0, 1, 2]),
        ([2], [2] * 7),
        ([1, 3], [1, 3, 1, 3, 1, 3, 1]),
        (torch.tensor([3, 0]), [3, 0] * 4),
    ],
)
def test_labels_are_repeated(labels: Any, expected: list[int]) -> None:
    gan = tiny_gan(ema=label_as_image, num_classes=4)
    images = torch.cat(list(sample(gan, 7, seed=0, labels=labels, batch_size=3)))
    assert images.flatten().tolist() == expected[:7]
    lines = interpolate(gan, 2, steps=3, seed=0, labels=labels)
    assert lines.flatten().tolist() == [label for label in expected[:2] for _ in range(3)]


@pytest.mark.parametrize(("num_classes", "labels"), [(4, [4]), (4, [-1, 2]), (4, []), (0, [0])])
def test_labels_that_the_model_does_not_have(num_classes: int, labels: list[int]) -> None:
    with pytest.raises(ValueError, match=r"labels=\[.*\]: must be (0 to 3|absent, as the model has no classes)"):
        next(sample(tiny_gan(num_classes=num_classes), 2, seed=0, labels=labels))


def test_images_are_generated_by_a_subclasss_own_forward() -> None:
    class Negative(GAN):
        def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
            return -super().forward(z, labels)

    positive, negative = (next(sample(tiny_gan(kind), 5, seed=0)) for kind in (GAN, Negative))
    assert torch.equal(negative, -positive)


def test_every_layer_returns_to_its_mode() -> None:
    gan = tiny_gan().train()
    gan.generator.layers[3].eval()
    before = [layer.training for layer in gan.modules()]
    generate(gan, torch.randn(2, 3))
    next(sample(gan, 2, seed=0))
    with pytest.raises(RuntimeError):
        generate(gan, torch.randn(2, 4))
    assert [layer.training for layer in gan.modules()] == before
    assert before.count(False) == 1


def test_batch_norm_uses_running_statistics() -> None:
    gan = tiny_gan().train()
    one = torch.cat(list(sample(gan, 1, seed=0)))
    many = torch.cat(list(sample(gan, 50, seed=0)))
    torch.testing.assert_close(one, many[:1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_images_are_float32_in_every_precision(dtype: torch.dtype) -> None:
    assert next(sample(tiny_gan().to(dtype), 2, seed=0)).dtype == torch.float32


class Slope(nn.Module):
    """A discriminator of points with the logit x_1 + 10 x_2 + 100 times the class."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 10.0]))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        assert not self.training
        return x.flatten(1) @ self.weight.unsqueeze(1) + 100 * (0 if labels is None else labels.unsqueeze(1))


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("loss", [NonSaturating(), Relativistic()])
def test_the_map_of_the_discriminator(num_classes: int, loss: Any) -> None:
    gan = tiny_gan(discriminator=Slope(), loss=loss, num_classes=num_classes).train()
    values, label = discriminator_map(gan, 4)
    centers = [-0.75, -0.25, 0.25, 0.75]
    logits = torch.tensor([[x + 10 * y + 100 * max(num_classes - 1, 0) for x in centers] for y in centers])
    is_probability = isinstance(loss, NonSaturating)
    torch.testing.assert_close(values, logits.sigmoid() if is_probability else logits)
    assert label == ("D(x)" if is_probability else "logit of x")
    assert gan.discriminator.training

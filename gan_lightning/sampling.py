"""Sampling from a trained GAN."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gan_lightning.data.images import fitting_batch_size
from gan_lightning.gan import GAN
from gan_lightning.networks import evaluation_mode

INTERPOLATION_STEPS = 12
NOISE_BLOCK = 1000  # noise vectors drawn at a time


def sample(
    gan: GAN,
    num_images: int,
    *,
    seed: int,
    labels: Sequence[int] | Tensor | None = None,
    batch_size: int | None = None,
) -> Iterator[Tensor]:
    """Yield batches of generated images (N, C, H, W) in [-1, 1], ``num_images`` in all.

    The noise comes from a CPU generator of its own: the same seed gives the same noise on every device and for every
    batch size, torch's random state stays as it is, and a smaller ``num_images`` yields a prefix of a larger one.

    Args:
        gan: The trained GAN.
        num_images: Number of images.
        seed: Seed of the noise.
        labels: See :func:`repeat_labels`.
        batch_size: Images generated at a time; None: see :func:`gan_lightning.data.images.fitting_batch_size`.
    """
    generator, all_labels = torch.Generator().manual_seed(seed), repeat_labels(gan, num_images, labels)
    for start in range(0, num_images, NOISE_BLOCK):
        z = gan.prior(NOISE_BLOCK, generator=generator)[: num_images - start]
        given = None if all_labels is None else all_labels[start : start + len(z)]
        if batch_size is None:
            batch_size = fitting_batch_size(generate(gan, z[:1], None if given is None else given[:1]).shape[1:])
        parts = [None] * len(z) if given is None else given.split(batch_size)
        for part, part_labels in zip(z.split(batch_size), parts, strict=False):
            yield generate(gan, part, part_labels)


def repeat_labels(gan: GAN, num_images: int, labels: Sequence[int] | Tensor | None = None) -> Tensor | None:
    """Return the labels (num_images,) of a conditional GAN's images: those given, or all classes, again and again.

    Raises:
        ValueError: If labels are given and the GAN is not conditional, or has no such class.
    """
    if labels is None:
        return torch.arange(num_images) % gan.num_classes if gan.num_classes else None
    given = torch.as_tensor(labels, dtype=torch.int64, device="cpu").flatten()
    if len(given) == 0 or not 0 <= int(given.min()) <= int(given.max()) < gan.num_classes:
        allowed = f"0 to {gan.num_classes - 1}" if gan.num_classes else "absent, as the model has no classes"
        raise ValueError(f"labels={given.unique().tolist()}: must be {allowed}")
    return given[torch.arange(num_images) % len(given)]


@torch.inference_mode()
def generate(gan: GAN, z: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return images (N, C, H, W), float32 in [-1, 1], generated in evaluation mode.

    Args:
        gan: The GAN.
        z: Noise (N, latent_dim).
        labels: Classes (N,) of a conditional GAN's images.
    """
    with evaluation_mode(gan):
        return gan(z.to(gan.fixed_latents), None if labels is None else labels.to(gan.device)).float()


def interpolate(
    gan: GAN,
    num_lines: int,
    *,
    steps: int = INTERPOLATION_STEPS,
    seed: int,
    labels: Sequence[int] | Tensor | None = None,
) -> Tensor:
    """Return images (num_lines * steps, C, H, W) in [-1, 1] along straight lines in z (the paper's Figure 3).

    Of a conditional GAN, each line has one of the ``labels``; see :func:`repeat_labels`.
    """
    line_labels = repeat_labels(gan, num_lines, labels)
    image_labels = None if line_labels is None else line_labels.repeat_interleave(steps)
    ends = gan.prior(2 * num_lines, generator=torch.Generator().manual_seed(seed)).view(num_lines, 2, 1, -1)
    share = torch.linspace(0, 1, steps).view(1, steps, 1)
    return generate(gan, torch.lerp(ends[:, 0], ends[:, 1], share).flatten(0, 1), image_labels)


@torch.inference_mode()
def discriminator_map(gan: GAN, size: int = 100) -> tuple[Tensor, str]:
    """Return D's values (size, size) on a grid over the square [-1, 1], by y and x, and what they are.

    They are "D(x)" if the loss makes the sigmoid of a logit a probability, else "logit of x"; of a conditional GAN, the
    largest over its classes.
    """
    axis = (torch.arange(size, device=gan.device) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([x, y], -1).view(-1, 2, 1, 1).to(gan.fixed_latents)
    with evaluation_mode(gan):
        classes = torch.arange(gan.num_classes or 1, device=gan.device)
        logits = torch.stack([gan.discriminator(points, label.expand(len(points))) for label in classes]).amax(0)
    is_probability = getattr(gan.loss, "gives_probabilities", False)
    values = logits.float().sigmoid() if is_probability else logits.float()
    return values.view(size, size), "D(x)" if is_probability else "logit of x"

"""From images to figures."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics import Metric

from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.data.images import InMemoryImages, normalise
from gan_lightning.gan import GAN
from gan_lightning.sampling import draw

BATCH = 1000  # images at a time
REFERENCE_IMAGES = 10_000  # samples that the figures under reference in conf/ are of


@contextmanager
def exact_products() -> Iterator[None]:
    """Have no TF32 within: distances are small differences of large products."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


@exact_products()
def score(
    metrics: Mapping[str, Metric],
    *,
    fake: Iterable[Tensor],
    real: Iterable[Tensor],
    validation: Callable[[int], Tensor],
    train: Callable[[], Iterable[Tensor]],
    device: torch.device,
) -> dict[str, float]:
    """Compare generated with real images by every metric.

    A metric takes both kinds through ``update(images, real=...)``. One that has something to choose, such as a
    width, then does so in ``tune(validation)``; one that looks for training images, in ``search(train)``. What they
    compute is gathered in one flat dictionary.

    Args:
        metrics: By name; reset before and after, and computed in this process alone.
        fake: Batches of generated images (N, C, H, W) in [-1, 1].
        real: Batches of held-out images, likewise.
        validation: Gives the first n images to choose by, likewise; never test images.
        train: Gives batches of the training images, likewise.
        device: Where the work is done.
    """
    device = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64
    for metric in metrics.values():
        metric.reset()
        metric.distributed_available_fn = lambda: False
        metric.to(device)
    for images, are_real in ((fake, False), (real, True)):
        for batch in images:
            there = batch.to(device)  # one tensor for all, so that they share a pass through the features
            for metric in metrics.values():
                metric.update(there, real=are_real)
    figures: dict[str, float] = {}
    for name, metric in metrics.items():
        if callable(tune := getattr(metric, "tune", None)):
            tune(lambda n: validation(n).to(device))
        if callable(search := getattr(metric, "search", None)):
            search(batch.to(device) for batch in train())
        result = metric.compute()
        figures |= result if isinstance(result, dict) else {name: result}
        metric.reset()
    return {name: float(value) for name, value in figures.items()}


@exact_products()
def evaluate(
    gan: GAN, data: ImageDataModule, metrics: Mapping[str, Metric], *, num_images: int, seed: int
) -> dict[str, dict[str, float]]:
    """Measure a GAN on the validation and on the test images.

    Args:
        gan: On the device that does the work; put into evaluation mode.
        data: Set up.
        metrics: See :func:`score`.
        num_images: Generated images.
        seed: Of their noise.

    Returns:
        For "validation" and for "test": what :meth:`GAN.judge` gives, averaged over the images, and the metrics; those
        that search the training images for "test" alone.
    """
    gan.eval()
    fake = list(draw(gan, num_images, seed=seed))  # the same for both, so that these share their features
    figures = {}
    for split, images in (("validation", data.val), ("test", data.test)):
        sums: dict[str, float] = {}
        found = score(
            # How far generated images are from the training images does not depend on the split.
            {name: m for name, m in metrics.items() if split == "test" or not hasattr(m, "search")},
            fake=fake,
            real=judged(gan, images, sums),
            validation=lambda n: normalise(data.val.images[:n].to(gan.device)),
            train=lambda: normalised(data.train.parts(BATCH), gan.device),
            device=gan.device,
        )
        figures[split] = {name: value / len(images) for name, value in sums.items()} | found
    return figures


def judged(gan: GAN, images: InMemoryImages, sums: dict[str, float]) -> Iterator[Tensor]:
    """Yield batches of images (N, C, H, W) in [-1, 1], and add to ``sums`` what :meth:`GAN.judge` gives for each image.

    So they are read once, and not kept.
    """
    batches = zip(normalised(images.parts(BATCH), gan.device), images.labels.split(BATCH), strict=True)
    for i, batch in enumerate(batches):
        with torch.inference_mode():
            for name, value in gan.judge(batch, i).items():
                sums[name] = sums.get(name, 0) + float(value) * len(batch[0])
        yield batch[0]


def normalised(parts: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Turn batches of bytes (N, C, H, W) into batches of images in [-1, 1] on a device."""
    return (normalise(part.to(device)) for part in parts)


def flatten(figures: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Put what :func:`evaluate` gives on one level: the test figures, and ``val_<name>`` for the others."""
    return dict(figures["test"]) | {f"val_{name}": value for name, value in figures["validation"].items()}


def save(figures: Mapping[str, float], path: Path) -> None:
    """Write figures as one JSON object, without those that are not finite, which JSON cannot tell."""
    finite = {name: value for name, value in figures.items() if math.isfinite(value)}
    path.write_text(json.dumps(finite, indent=2) + "\n")


def table(
    figures: Mapping[str, Mapping[str, float]], reference: Mapping[str, Mapping[str, float]] | None, num_images: int
) -> str:
    """Lay figures of so many images out beside those to compare them with; those not measured are left blank."""
    columns = {**figures, **(reference or {})}
    width = max(map(len, columns)) + 2
    names = dict.fromkeys(name for column in columns.values() for name in column)
    lines = [f"{'':24}" + "".join(f"{title:>{width}}" for title in columns)]
    for name in names:
        values = (f"{column[name]:.4g}" if name in column else "" for column in columns.values())
        lines.append(f"{name:24}" + "".join(f"{value:>{width}}" for value in values))
    if reference and num_images != REFERENCE_IMAGES:
        few = f"{', '.join(reference)}: {REFERENCE_IMAGES:,} samples; here {num_images:,}, for which FID is another"
        lines.append(f"({few})")
    return "\n".join(lines)

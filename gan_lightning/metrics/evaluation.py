"""Computation of the metrics of a set of images, and of a trained GAN."""

import copy
import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.data.images import InMemoryImages, StreamedImages, fitting_batch_size, image_shape, normalize
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.metrics.base import ImageMetric
from gan_lightning.metrics.features import FeatureExtractor
from gan_lightning.sampling import repeat_labels, sample

Progress = Callable[[str, float], None]  # description of the next piece of work, share of the work that is done


@contextmanager
def exact_products() -> Iterator[None]:
    """Disable TF32 within the context: distances are small differences of large products."""
    precision, cudnn_tf32 = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = cudnn_tf32


@exact_products()
def compute_metrics(
    metrics: Mapping[str, Metric],
    *,
    fake: Iterable[Tensor],
    labels: Tensor | None = None,
    real: Mapping[str, Iterable[Tensor]],
    validation: Callable[[int], Iterable[Tensor]],
    train: Callable[[], Iterable[Tensor]],
    device: torch.device,
    on_progress: Progress | None = None,
) -> dict[str, dict[str, float]]:
    """Return all values of the metrics that compare generated with real images, of one or more splits.

    No more than a batch of images is in memory at a time, besides what metrics keep.

    Args:
        metrics: By name. An :class:`ImageMetric` names its own values; the value of any other metric with
            ``update(images, real=...)`` has the name given here. All are reset before and after, and are computed in
            this process only.
        fake: Batches of generated images (N, C, H, W) in [-1, 1].
        labels: Their classes, all in one tensor, if they are of a conditional GAN. Metrics whose ``update`` takes
            ``labels`` are left out otherwise.
        real: Batches of held-out images, likewise, by the split's name. Metrics that use the training images are
            computed for the last split only.
        validation: Returns batches of the first n validation images, likewise; never test images, as parameters are
            chosen on them.
        train: Returns batches of all training images, likewise.
        device: Where the metrics are computed.
        on_progress: Called before each piece of work with its description and the share of the work that is done.

    Returns:
        Each value by its split and its name.

    Raises:
        InputError: If a metric's value is not a number.
    """
    device = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64
    metrics = {name: metric for name, metric in metrics.items() if labels is not None or not takes_labels(metric)}
    *others, last = real
    by_split = {split: copies(metrics) for split in others} | {last: metrics}
    for metric in (metric for chosen in by_split.values() for metric in chosen.values()):
        metric.reset()
        metric.distributed_available_fn = lambda: False
        metric.to(device)
    pieces = ["Generating samples"] + [f"{s}: {what}" for s in real for what in ("real images", *by_split[s])]

    def report(piece: str) -> None:
        if on_progress:
            on_progress(piece, pieces.index(piece) / len(pieces))

    report("Generating samples")
    start = 0
    for batch in fake:
        images = batch.to(device, torch.float32)  # one tensor for all metrics, so that they share its features
        for metric in (metric for chosen in by_split.values() for metric in chosen.values()):
            if labels is not None and takes_labels(metric):
                metric.update(images, real=False, labels=labels[start : start + len(images)].to(device))
            else:
                metric.update(images, real=False)
        start += len(images)
    values: dict[str, dict[str, float]] = {}
    for split, chosen in by_split.items():
        report(f"{split}: real images")
        for batch in real[split]:
            images = batch.to(device, torch.float32)
            for metric in chosen.values():
                if not takes_labels(metric):
                    metric.update(images, real=True)
        values[split] = {}
        for name, metric in chosen.items():
            report(f"{split}: {name}")
            if isinstance(metric, ImageMetric):
                metric.prepare(
                    validation=lambda n: (batch.to(device, torch.float32) for batch in validation(n)),
                    train=lambda: (batch.to(device, torch.float32) for batch in train()),
                )
            values[split] |= numbers(name, metric.compute())
            metric.reset()
    return values


def copies(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """Return copies, which share their feature extractors, of the metrics that do not use the training images."""
    shared = {id(part): part for part in feature_extractors(metrics).values()}
    kept = {name: m for name, m in metrics.items() if not getattr(m, "uses_training_images", False)}
    return {name: copy.deepcopy(metric, dict(shared)) for name, metric in kept.items()}


def feature_extractors(metrics: Mapping[str, Metric]) -> dict[str, FeatureExtractor]:
    """Return the feature extractor of each metric that has one, by the metric's name."""
    parts = ((name, part) for name, metric in metrics.items() for part in metric.modules())
    return {name: part for name, part in parts if isinstance(part, FeatureExtractor)}


def numbers(name: str, result: Any) -> dict[str, float]:
    """Return the result of a metric as numbers by name; InputError if it is not a number, or a dictionary of these."""
    values = result if isinstance(result, dict) else {name: result}
    for key, value in values.items():
        if not isinstance(value, Tensor | int | float) or torch.as_tensor(value).numel() != 1:
            raise InputError(f"metrics.{key}: compute() must return a number, or a dictionary of numbers")
    return {key: float(value) for key, value in values.items()}


def takes_labels(metric: Any) -> bool:
    """Return whether the ``update`` of a metric, or of its class, takes the labels of generated images."""
    kind = metric if inspect.isclass(metric) else type(metric)
    return issubclass(kind, Metric) and "labels" in inspect.signature(metric.update).parameters


@exact_products()
def evaluate(
    gan: GAN,
    data: ImageDataModule,
    metrics: Mapping[str, Metric],
    *,
    num_images: int,
    seed: int,
    on_progress: Progress | None = None,
) -> dict[str, dict[str, float]]:
    """Return the metrics of a GAN on the validation and on the test images.

    Args:
        gan: On the device where the metrics are computed; it is put into evaluation mode.
        data: After ``setup()``.
        metrics: See :func:`compute_metrics`.
        num_images: Number of generated images.
        seed: Seed of their noise.
        on_progress: Called before each piece of work with its description and the share of the work that is done.

    Returns:
        For "validation" and for "test", the values of :meth:`GAN.adversarial_metrics`, averaged over the images, and
        those of the metrics. Metrics that use the training images are computed for "test" only.
    """
    gan.eval()
    labels = data.val.labels if gan.num_classes else None  # the classes are as frequent as in the data
    splits = {"validation": data.val, "test": data.test}
    totals: dict[str, dict[str, float]] = {split: {} for split in splits}
    values = compute_metrics(
        metrics,
        fake=sample(gan, num_images, seed=seed, labels=labels),
        labels=repeat_labels(gan, num_images, labels),
        real={split: _normalized_and_measured(images, gan, totals[split]) for split, images in splits.items()},
        validation=lambda n: normalized_batches(data.val.first(n), gan.device),
        train=lambda: normalized_batches(data.train, gan.device),
        device=gan.device,
        on_progress=on_progress,
    )
    averages = {s: {name: total / len(splits[s]) for name, total in totals[s].items()} for s in splits}
    return {split: averages[split] | values[split] for split in splits}


def _normalized_and_measured(
    images: InMemoryImages | StreamedImages, gan: GAN, totals: dict[str, float]
) -> Iterator[Tensor]:
    """Yield batches (N, C, H, W) in [-1, 1], adding each image's adversarial metrics to ``totals``: one pass for both.

    Args:
        images: Held-out images.
        gan: See :meth:`GAN.adversarial_metrics`.
        totals: Sum over the images so far, by name.
    """
    size = fitting_batch_size(image_shape(images))
    for i, index in enumerate(torch.arange(len(images)).split(size)):
        pixels, labels = images[index]
        batch = normalize(pixels.to(gan.device))
        with torch.inference_mode():
            for name, value in gan.adversarial_metrics((batch, labels.to(gan.device)), i).items():
                totals[name] = totals.get(name, 0.0) + float(value) * len(batch)
        yield batch


def normalized_batches(images: InMemoryImages | StreamedImages, device: torch.device) -> Iterator[Tensor]:
    """Yield all images in batches (N, C, H, W) in [-1, 1] on a device."""
    return (normalize(batch.to(device)) for batch in images.batches())


def flatten_splits(results: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the results of :func:`evaluate` in one dictionary: the test values, and ``val_<name>`` for the others."""
    return dict(results["test"]) | {f"val_{name}": value for name, value in results["validation"].items()}


def directions(metrics: Mapping[str, Metric | type[Metric]]) -> dict[str, bool | None]:
    """Return whether higher is better for each value of metrics or of their classes; None: neither or unknown."""
    result: dict[str, bool | None] = {}
    for name, metric in metrics.items():
        values = getattr(metric, "values", None)
        result |= values if isinstance(values, dict) else {name: getattr(metric, "higher_is_better", None)}
    return result


def choose_monitor(
    measured: Mapping[str, bool | None], monitor: str | None, mode: str | None, *, probabilities: bool, complete: bool
) -> tuple[str, str]:
    """Return the metric that selects the best checkpoint, and "min" or "max".

    Args:
        measured: Whether higher is better for each metric that validations measure; see :func:`directions`.
        monitor: Its name; None for FID, or else the log-likelihood, coverage, or the generator's loss.
        mode: "min" or "max"; None for the metric's own direction.
        probabilities: Whether the loss gives probabilities; see :meth:`GAN.adversarial_metrics`.
        complete: Whether no other metrics can be measured.

    Raises:
        InputError: If it is not measured, or its direction is unknown and no mode is given.
    """
    adversarial: dict[str, bool | None] = {"loss_discriminator": False, "loss_generator": False}
    if probabilities:
        adversarial |= {"accuracy": True, "probability_real": None, "probability_fake": None}
    else:
        adversarial |= {"logit_real": None, "logit_fake": None}
    measured = {**measured, **{f"validation/{name}": higher for name, higher in adversarial.items()}}
    monitor = monitor or next(
        name for name in ("fid", "parzen_ll", "coverage", "validation/loss_generator") if name in measured
    )
    if complete and monitor not in measured:
        last = {name.rpartition("/")[2]: name for name in measured}
        close = difflib.get_close_matches(monitor.rpartition("/")[2], last, n=1)
        hint = "".join(f"; did you mean {last[name]}?" for name in close)
        raise InputError(
            f"monitor={monitor}: not computed during validation; available are {', '.join(measured)}{hint}"
        )
    if mode is None and measured.get(monitor) is None:
        raise InputError(f"monitor={monitor}: it is not known whether higher is better; set monitor_mode to min or max")
    return monitor, mode or ("max" if measured[monitor] else "min")

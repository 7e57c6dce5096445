"""Metrics of generated images during training."""

from collections.abc import Mapping, Sequence

from pytorch_lightning import Callback, Trainer
from torch import Tensor
from torchmetrics import Metric

from gan_lightning.callbacks.scalars import log_scalars
from gan_lightning.data.datamodule import HELD_BYTES
from gan_lightning.data.images import image_shape
from gan_lightning.gan import GAN
from gan_lightning.metrics.evaluation import compute_metrics, normalized_batches
from gan_lightning.sampling import repeat_labels, sample


class ValidationMetrics(Callback):
    """At each validation, compare generated with validation images and log ``metrics/<name>``.

    As most values depend on how many images are compared, these numbers are logged too, and they are not comparable
    with the final evaluation's. The values can be monitored by their names. On several devices the first one does the
    work.

    Args:
        metrics: Metrics by name; see :func:`gan_lightning.metrics.evaluation.compute_metrics`.
        skip: Names of metrics to leave out.
        num_images: Number of generated images.
        num_real: Number of validation images to use, starting with the first; all of them if there are fewer.
        seed: Seed of the generated images' noise.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self, *, metrics: Mapping[str, Metric], skip: Sequence[str], num_images: int, num_real: int, seed: int
    ) -> None:
        for name, value in (("num_images", num_images), ("num_real", num_real)):
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        self.metrics = {name: metric for name, metric in metrics.items() if name not in skip}
        self.num_images, self.num_real, self.seed = num_images, num_real, seed
        self.compared: list[int] = []  # number of samples and of validation images at the last validation
        self.real: list[Tensor] = []  # the same tensors at each validation, so that their features are computed once

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Compute and log the metrics."""
        if trainer.sanity_checking:
            return
        values: dict[str, float] = {}
        data, device = trainer.datamodule, pl_module.device
        first = data.val.first(self.num_real)
        self.compared = [self.num_images, len(first)]
        if trainer.is_global_zero:
            if not self.real and 4 * image_shape(first).numel() * len(first) <= HELD_BYTES:
                self.real = list(normalized_batches(first, device))
            labels = data.val.labels if pl_module.num_classes else None  # the classes are as frequent as in the data
            values = compute_metrics(
                self.metrics,
                fake=sample(pl_module, self.num_images, seed=self.seed, labels=labels),
                labels=repeat_labels(pl_module, self.num_images, labels),
                real={"validation": self.real or normalized_batches(first, device)},
                validation=lambda n: normalized_batches(data.val.first(n), device),
                train=lambda: normalized_batches(data.train, device),
                device=device,
            )["validation"]
            numbers = dict(zip(("num_images", "num_real"), self.compared, strict=True))
            log_scalars(trainer, {f"metrics/{name}": value for name, value in (numbers | values).items()})
        values = trainer.strategy.broadcast(values)
        pl_module.log_dict(values, logger=False, sync_dist=True)

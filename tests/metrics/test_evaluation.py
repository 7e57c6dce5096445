from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from gan_lightning.data.images import InMemoryImages, normalize
from gan_lightning.errors import InputError
from gan_lightning.metrics.base import ImageMetric
from gan_lightning.metrics.evaluation import compute_metrics, directions, evaluate, flatten_splits
from tests.helpers import tiny_gan

CPU = torch.device("cpu")


class Brightness(Metric):
    """Mean generated pixel minus mean real pixel."""

    full_state_update = False
    higher_is_better = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("fake", default=torch.zeros(2))
        self.add_state("real", default=torch.zeros(2))

    def update(self, images: Tensor, *, real: bool) -> None:
        assert images.dtype == torch.float32
        state = self.real if real else self.fake
        state += torch.tensor([float(images.sum()), images.numel()])

    def compute(self) -> Tensor:
        return self.fake[0] / self.fake[1] - self.real[0] / self.real[1]


class OtherImages(ImageMetric):
    """Number of the validation and of the training images that it was given, and of updates."""

    values: ClassVar[dict[str, bool | None]] = {"num_validation": True, "num_train": False, "num_updates": None}
    uses_training_images = True

    def __init__(self) -> None:
        super().__init__()
        self.add_state("updates", default=torch.tensor(0))

    def update(self, images: Tensor, *, real: bool) -> None:
        self.updates += 1

    def prepare(self, *, validation: Callable[[int], Iterable[Tensor]], train: Callable[[], Iterable[Tensor]]) -> None:
        assert self.updates > 0
        validation_images, train_images = (sum(map(len, batches)) for batches in (validation(3), train()))
        self.numbers = validation_images, train_images

    def compute(self) -> dict[str, Tensor]:
        return dict(zip(self.values, map(torch.as_tensor, (*self.numbers, self.updates)), strict=True))


def compute(metrics: dict[str, Metric], **changes: Any) -> dict[str, float]:
    real = torch.zeros(4, 1, 2, 2)
    images: dict[str, Any] = {"fake": [torch.ones(3, 1, 2, 2)] * 2, "real": {"test": [real]}, "train": list}
    images["validation"] = lambda n: [real[:n]]
    return compute_metrics(metrics, device=CPU, **(images | changes))["test"]


def images(size: int) -> InMemoryImages:
    return InMemoryImages(torch.randint(0, 256, (size, 1, 4, 4), dtype=torch.uint8), torch.zeros(size).long())


class TwoNumbers(Brightness):
    """A metric that is no scalar."""

    def compute(self) -> Tensor:
        return torch.zeros(2)


def test_a_metric_is_a_number() -> None:
    with pytest.raises(InputError, match=r"^metrics.own: compute\(\) must return a number"):
        compute({"own": TwoNumbers()})


def test_metrics_are_reset_before_and_after() -> None:
    metric = Brightness()
    metric.update(torch.full((1, 1, 2, 2), 9.0), real=False)
    for _ in range(2):
        assert compute({"brightness": metric}) == {"brightness": 1.0}
    assert metric.fake.tolist() == [0, 0]


def test_image_metrics_name_their_values_and_get_other_images() -> None:
    values = compute({"brightness": Brightness(), "other": OtherImages()}, train=lambda: [torch.zeros(5, 1, 2, 2)] * 2)
    assert values == {"brightness": 1.0, "num_validation": 3, "num_train": 10, "num_updates": 3}


def test_metrics_get_float32_images() -> None:
    assert compute({"brightness": Brightness()}, fake=[torch.ones(3, 1, 2, 2).bfloat16()]) == {"brightness": 1.0}


def test_products_are_exact_whatever_the_training_has_set() -> None:
    class Precision(Brightness):
        def compute(self) -> Tensor:
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
            return super().compute()

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        compute({"precision": Precision()})
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before)


def test_evaluate_computes_both_splits_and_averages_over_all_images() -> None:
    gan = tiny_gan()
    data = SimpleNamespace(train=images(20), val=images(7), test=images(1500))  # the test images in two batches
    metrics = {"brightness": Brightness(), "other": OtherImages()}
    progress: list[tuple[str, float]] = []
    results = evaluate(
        gan,
        data,  # type: ignore[arg-type]
        metrics,
        num_images=1100,
        seed=0,
        on_progress=lambda description, done: progress.append((description, done)),
    )
    assert results.keys() == {"validation", "test"}
    assert results["test"]["num_train"] == 20
    assert results["test"]["num_updates"] == 4
    assert "num_train" not in results["validation"]
    real = normalize(data.test.images)
    with torch.inference_mode():
        gan.eval()
        logits = gan.discriminator(real)
    assert results["test"]["probability_real"] == pytest.approx(logits.sigmoid().mean().item(), rel=1e-4)

    flat = flatten_splits(results)
    assert flat["accuracy"] == results["test"]["accuracy"]
    assert flat["val_accuracy"] == results["validation"]["accuracy"]

    descriptions, done = zip(*progress, strict=True)
    assert descriptions[0] == "Generating samples"
    assert {"validation: brightness", "test: brightness", "test: other"} <= set(descriptions)
    assert "validation: other" not in descriptions
    assert done[0] == 0
    assert list(done) == sorted(set(done))
    assert done[-1] < 1


def test_directions_of_all_values() -> None:
    metrics = {"brightness": Brightness(), "other": OtherImages()}
    assert directions(metrics) == {"brightness": False, "num_validation": True, "num_train": False, "num_updates": None}

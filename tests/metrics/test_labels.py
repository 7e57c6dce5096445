import pytest
import torch
from torch import Tensor, nn

from gan_lightning.metrics.evaluation import compute_metrics
from gan_lightning.metrics.labels import LabelAgreement


class FirstPixel(nn.Module):
    """A classifier that reads the class from an image's first pixel."""

    num_classes = 3

    def classify(self, images: Tensor) -> Tensor:
        return images[:, 0, 0, 0].long()


def compute(labels: Tensor | None, *batches: list[float]) -> dict[str, float]:
    images = [torch.tensor(batch).view(-1, 1, 1, 1) for batch in batches]
    return compute_metrics(
        {"label_agreement": LabelAgreement(features=FirstPixel())},  # type: ignore[arg-type]
        fake=images,
        labels=labels,
        real={"test": [torch.zeros(5, 1, 1, 1)]},
        validation=lambda n: [images[0][:n]],
        train=list,
        device=torch.device("cpu"),
    )["test"]


def test_agreement_is_that_of_all_images_and_of_the_worst_class() -> None:
    asked = torch.tensor([0, 0, 0, 0, 1, 1])  # class 2 was not asked for
    values = compute(asked, [0.0, 0, 2], [0, 1, 0])  # in batches
    assert values == pytest.approx({"label_agreement": 4 / 6, "label_agreement_min": 1 / 2})
    assert values.keys() == LabelAgreement.values.keys()


def test_images_of_an_unconditional_gan_agree_with_nothing() -> None:
    assert compute(None, [0.0, 1]) == {}

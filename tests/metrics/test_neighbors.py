from typing import Any

import pytest
import torch
from torch import Tensor

from gan_lightning.metrics import neighbors
from gan_lightning.metrics.neighbors import NearestTraining, PrecisionRecall


def flat(images: Tensor) -> Tensor:
    return images.flatten(1)


def computed(real: Tensor, fake: Tensor, k: int) -> dict[str, float]:
    metric = PrecisionRecall(features=flat, k=k)
    for batch in real.split(7):
        metric.update(batch, real=True)
    for batch in fake.split(5):
        metric.update(batch, real=False)
    values = {name: float(value) for name, value in metric.compute().items()}
    assert values.keys() == metric.values.keys()
    return values


@pytest.mark.parametrize("k", [1, 3])
def test_precision_recall_density_and_coverage_equal_their_definition(k: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(neighbors, "BLOCK", 8)
    real, fake = torch.randn(30, 1, 2, 2), torch.randn(20, 1, 2, 2) * 0.7 + 0.3
    r, f = flat(real), flat(fake)
    between = torch.cdist(r, f)  # (30, 20)
    real_ball, fake_ball = (torch.cdist(x, x).sort(1).values[:, k] for x in (r, f))
    expected = {
        "precision": (between <= real_ball[:, None]).any(0).float().mean(),
        "recall": (between <= fake_ball[None]).any(1).float().mean(),
        "density": (between <= real_ball[:, None]).sum(0).float().mean() / k,
        "coverage": (between.amin(1) <= real_ball).float().mean(),
    }
    assert computed(real, fake, k) == pytest.approx({name: value.item() for name, value in expected.items()}, abs=1e-6)


def test_fewer_images_than_neighbors() -> None:
    values = computed(torch.randn(3, 1, 2, 2), torch.randn(1, 1, 2, 2), 5)
    assert all(0 <= values[name] <= 1 for name in ("precision", "recall", "coverage"))


def test_distant_images_have_zeros() -> None:
    real = torch.randn(30, 1, 2, 2)
    assert set(computed(real, real + 100, 3).values()) == {0.0}


def test_images_around_one_point_have_precision_and_no_recall() -> None:
    real = torch.randn(200, 1, 2, 2)
    values = computed(real, real[:1] + torch.randn(50, 1, 2, 2) * 1e-3, 3)
    assert values["precision"] == 1.0
    assert values["recall"] < 0.05
    assert values["coverage"] < 0.1


def test_precision_recall_validates_k() -> None:
    with pytest.raises(ValueError, match=r"^k=0: .*at least 1"):
        PrecisionRecall(features=flat, k=0)


def test_nearest_training_distinguishes_copies_from_new_images() -> None:
    train, new = torch.rand(40, 1, 3, 3) * 2 - 1, torch.rand(10, 1, 3, 3) * 2 - 1
    metric = NearestTraining(stride=2)
    metric.update(train[5:15], real=False)
    for batch in new.split(4):
        metric.update(batch, real=True)
    metric.prepare(validation=lambda n: new[:n], train=lambda: train.split(16))
    values = metric.compute()
    compared = torch.cat([new[:4:2], new[4:8:2], new[8::2]])
    expected = torch.cdist(flat(compared), flat(train)).amin(1).mean() / 2  # pixels in [0, 1]
    assert values.keys() == metric.values.keys()
    assert values["nearest_training"].item() == pytest.approx(0, abs=1e-3)
    assert values["nearest_training_real"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_nearest_training_needs_training_images() -> None:
    with pytest.raises(RuntimeError, match=r"prepare\(\) before compute"):
        NearestTraining(stride=1).compute()


def test_nearest_training_validates_its_stride() -> None:
    with pytest.raises(ValueError, match=r"^stride=0: .*at least 1"):
        NearestTraining(stride=0)

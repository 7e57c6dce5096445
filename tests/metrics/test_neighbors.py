import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_lightning.metrics import neighbors
from gan_lightning.metrics.neighbors import (
    ClippedDensityCoverage,
    NearestTraining,
    NeighborMetric,
    PrecisionRecall,
    expected_coverage,
)


def flat(images: Tensor) -> Tensor:
    return images.flatten(1)


def computed(real: Tensor, fake: Tensor, k: int, kind: type[NeighborMetric] = PrecisionRecall) -> dict[str, float]:
    metric = kind(features=flat, k=k)
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


@pytest.mark.parametrize("kind", [PrecisionRecall, ClippedDensityCoverage])
def test_neighbor_metrics_validate_k(kind: type[NeighborMetric]) -> None:
    with pytest.raises(ValueError, match=r"^k=0: must be from 1 to 1000"):
        kind(features=flat, k=0)


def expected_by_fractions(m: int, num_real: int, k: int) -> float:
    """Sum over the beta-binomial distribution as negative hypergeometric: how many of m precede k of N - 1."""

    def probability(x: int) -> float:
        before, after = math.comb(x + k - 1, x), math.comb(m - x + num_real - 1 - k, m - x)
        return before * after / math.comb(m + num_real - 1, m)

    return sum(min(1, x / k) * probability(x) for x in range(m + 1))


@pytest.mark.parametrize("k", [1, 3])
def test_clipped_density_and_coverage_equal_their_definition(k: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(neighbors, "BLOCK", 8)
    real, fake = torch.randn(30, 1, 2, 2), torch.randn(20, 1, 2, 2) * 0.9 + 0.2
    r, f = flat(real).double(), flat(fake).double()
    radii = [sorted(float((a - b).norm()) for j, b in enumerate(r) if j != i)[k - 1] for i, a in enumerate(r)]
    clipped = [min(radius, sorted(radii)[14]) for radius in radii]

    def density(images: Tensor, *, own: bool) -> float:
        counts = [
            sum(float((a - x).norm()) <= clipped[i] for i, a in enumerate(r) if not (own and i == j))
            for j, x in enumerate(images)
        ]
        return sum(min(1, count / k) for count in counts) / len(counts)

    found = [sum(float((a - x).norm()) <= radius for x in f) for a, radius in zip(r, radii, strict=True)]
    mean = sum(min(1, count / k) for count in found) / len(found)
    assert computed(real, fake, k, ClippedDensityCoverage) == pytest.approx(
        {
            "clipped_density": min(1, density(f, own=False) / density(r, own=True)),
            "clipped_coverage": max(m for m in range(21) if expected_by_fractions(m, 30, k) <= mean) / 20,
        }
    )


@pytest.mark.parametrize(("num_real", "k"), [(2, 1), (6, 5), (30, 1), (30, 5), (500, 5)])
def test_expected_coverage_equals_its_sum(num_real: int, k: int) -> None:
    found = expected_coverage(40, num_real=num_real, k=k)
    assert found.tolist() == pytest.approx([expected_by_fractions(m, num_real, k) for m in range(1, 41)])
    assert (found.diff() > 0).all()
    assert found[0].item() == pytest.approx(1 / num_real)


@pytest.mark.parametrize("m", [5, 20, 60])
def test_expected_coverage_equals_what_is_simulated(m: int) -> None:
    """Distances to any real image, measured by the share of the distribution that is nearer, are uniform."""
    radii = torch.rand(20_000, 29).kthvalue(3, 1, keepdim=True).values
    mean = ((torch.rand(20_000, m) <= radii).sum(1) / 3).clamp(max=1).mean()
    assert expected_coverage(m, num_real=30, k=3)[-1].item() == pytest.approx(mean.item(), abs=0.01)


def test_clipped_values_do_not_depend_on_batches() -> None:
    real, fake = torch.randn(50, 1, 2, 2), torch.randn(40, 1, 2, 2)
    whole = ClippedDensityCoverage(features=flat, k=5)
    whole.update(fake, real=False)
    whole.update(real, real=True)
    assert computed(real, fake, 5, ClippedDensityCoverage) == {k: float(v) for k, v in whole.compute().items()}


def test_clipped_values_of_few_or_equal_images() -> None:
    for n, m in ((2, 1), (3, 1), (2, 30), (6, 6), (5, 3)):
        values = computed(torch.randn(n, 1, 2, 2), torch.randn(m, 1, 2, 2), 5, ClippedDensityCoverage)
        assert all(0 <= value <= 1 for value in values.values())
    same = torch.randn(1, 1, 2, 2).expand(30, -1, -1, -1)
    assert computed(same, same, 5, ClippedDensityCoverage) == {"clipped_density": 1, "clipped_coverage": 1}


def test_clipped_values_of_one_real_image_or_of_images_that_are_not_finite_are_nan() -> None:
    real, one, broken = torch.randn(9, 1, 2, 2), torch.randn(1, 1, 2, 2), torch.full((9, 1, 2, 2), torch.inf)
    for a, b in ((one, real), (real, broken), (real, broken * 0)):
        assert all(math.isnan(value) for value in computed(a, b, 5, ClippedDensityCoverage).values())


def test_nearest_training_distinguishes_copies_from_new_images() -> None:
    train, new = torch.rand(40, 1, 3, 3) * 2 - 1, torch.rand(10, 1, 3, 3) * 2 - 1
    metric = NearestTraining(stride=2)
    metric.update(train[5:15], real=False)
    for batch in new.split(3):
        metric.update(batch, real=True)
    metric.prepare(validation=lambda n: [new[:n]], train=lambda: train.split(16))
    values = metric.compute()
    expected = torch.cdist(flat(new[::2]), flat(train)).amin(1).mean() / 2  # pixels in [0, 1]
    assert values.keys() == metric.values.keys()
    assert values["nearest_training"].item() == pytest.approx(0, abs=1e-3)
    assert values["nearest_training_real"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_nearest_training_needs_training_images() -> None:
    with pytest.raises(RuntimeError, match=r"prepare\(\) before compute"):
        NearestTraining(stride=1).compute()


def test_nearest_training_validates_its_stride() -> None:
    with pytest.raises(ValueError, match=r"^stride=0: .*at least 1"):
        NearestTraining(stride=0)

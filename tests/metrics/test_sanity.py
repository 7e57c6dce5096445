"""What each metric says of sets of images whose faults are known: samples of a mixture of eight Gaussians."""

from math import log

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from gan_lightning.metrics.distances import FID, KID, SlicedWasserstein
from gan_lightning.metrics.evaluation import compute_metrics
from gan_lightning.metrics.modes import Modes
from gan_lightning.metrics.neighbors import ClippedDensityCoverage, NearestTraining, PrecisionRecall
from gan_lightning.metrics.parzen import ParzenWindow

MODES = 8
N = 2000
CENTERS = 5 * torch.eye(MODES).view(MODES, MODES, 1, 1)


class Pixels(nn.Module):
    """The pixels as features; the class is that of the nearest mode."""

    num_features = num_classes = MODES

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)

    def classify(self, images: Tensor) -> Tensor:
        return images.flatten(1).argmax(1)


def mixture(modes: int = MODES, std: float = 1.0, size: int = N) -> Tensor:
    return CENTERS[torch.arange(size) % modes] + std * torch.randn(size, MODES, 1, 1)


def measure(real: Tensor, fake: Tensor) -> dict[str, float]:
    metrics: dict[str, Metric] = {
        "fid": FID(features=Pixels()),
        "kid": KID(features=Pixels(), subsets=10, subset_size=500),
        "sliced_wasserstein": SlicedWasserstein(features=Pixels(), projections=200),
        "precision_recall": PrecisionRecall(features=Pixels(), k=3),
        "clipped": ClippedDensityCoverage(features=Pixels(), k=5),
        "modes": Modes(features=Pixels()),
        "parzen": ParzenWindow(num_validation=500),
    }
    return compute_metrics(
        metrics,
        fake=[fake],
        real={"test": [real]},
        validation=lambda n: [real[:n]],
        train=list,
        device=real.device,
    )["test"]


@pytest.fixture(scope="module")
def real() -> Tensor:
    torch.manual_seed(1)
    return mixture()


@pytest.fixture(scope="module")
def best(real: Tensor) -> dict[str, float]:
    """The metrics of other samples of the same distribution."""
    torch.manual_seed(2)
    return measure(real, mixture())


def test_real_images_have_the_best_values(best: dict[str, float]) -> None:
    assert best["fid"] == pytest.approx(0, abs=0.1)
    assert best["kid"] == pytest.approx(0, abs=0.3)
    assert best["sliced_wasserstein"] == pytest.approx(0, abs=0.1)
    assert best["precision"] == pytest.approx(best["recall"], abs=0.03)
    assert best["precision"] > 0.8
    assert best["density"] == pytest.approx(1, abs=0.1)
    assert best["coverage"] == pytest.approx(1 - 1 / 2**3, abs=0.03)  # of large sets (Naeem et al., 2020)
    assert best["clipped_density"] == pytest.approx(1, abs=0.07)
    assert best["clipped_coverage"] == pytest.approx(1, abs=0.1)
    assert best["mode_kl"] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("modes", [2, 4, 6])
def test_modes_that_are_missing(real: Tensor, best: dict[str, float], modes: int) -> None:
    values, share = measure(real, mixture(modes)), modes / MODES
    assert values["recall"] < best["recall"] * (share + 0.1)
    assert values["coverage"] < best["coverage"] * (share + 0.1)
    assert values["clipped_coverage"] == pytest.approx(share, abs=0.06)
    for name in ("precision", "density", "clipped_density"):
        assert values[name] == pytest.approx(best[name], abs=0.15 if name == "density" else 0.1)
    assert values["mode_kl"] == pytest.approx(-log(share), abs=0.03)
    assert values["mode_share_min"] < 0.01
    assert values["mode_share_max"] == pytest.approx(1 / modes, abs=0.02)
    assert values["fid"] > best["fid"] + 1
    assert values["kid"] > best["kid"] + 1
    assert values["sliced_wasserstein"] > best["sliced_wasserstein"] + 0.2
    assert values["parzen_ll"] < best["parzen_ll"] - 1


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_the_clipped_values_are_the_share_of_good_images(real: Tensor, best: dict[str, float], share: float) -> None:
    fake = mixture()
    fake[torch.randperm(N)[: int(share * N)]] += 100
    values = measure(real, fake)
    assert values["clipped_density"] == pytest.approx(1 - share, abs=0.06)
    assert values["clipped_coverage"] == pytest.approx(1 - share, abs=0.06)
    assert values["precision"] == pytest.approx(best["precision"] * (1 - share), abs=0.04)
    assert values["coverage"] > 1 - share + 0.03  # not linear


def test_outliers_among_real_images_raise_precision_and_density_but_not_clipped_density(
    real: Tensor, best: dict[str, float]
) -> None:
    bad, outliers = 20 * torch.randn(N, MODES, 1, 1), real.clone()
    outliers[: N // 20] = 20 * torch.randn(N // 20, MODES, 1, 1)
    without, among = measure(real, bad), measure(outliers, bad)
    for name in ("precision", "density"):
        assert without[name] < 0.01
        assert among[name] > 0.5
    assert without["clipped_density"] == pytest.approx(0, abs=0.01)
    assert among["clipped_density"] == pytest.approx(0, abs=0.01)
    assert measure(outliers, mixture())["clipped_density"] == pytest.approx(best["clipped_density"], abs=0.07)


def test_images_scattered_around_the_data_have_recall_but_no_clipped_coverage(real: Tensor) -> None:
    values = measure(real, 20 * torch.randn(N, MODES, 1, 1))
    assert values["recall"] > 0.9
    assert values["clipped_coverage"] < 0.01


def rows(real: Tensor, fakes: list[Tensor]) -> dict[str, list[float]]:
    """Return each value of several sets of generated images."""
    measured = [measure(real, fake) for fake in fakes]
    return {name: [values[name] for values in measured] for name in measured[0]}


@pytest.mark.parametrize("fault", ["shift", "noise"])
def test_shifts_and_noise_worsen_the_values_step_by_step(real: Tensor, fault: str) -> None:
    sizes = (0.0, 1.0, 2.0, 4.0)  # length of the shift, or the noise's standard deviation
    kinds = {
        "shift": [mixture() + size / MODES**0.5 for size in sizes],
        "noise": [mixture() + size * torch.randn(N, MODES, 1, 1) for size in sizes],
    }
    values = rows(real, kinds[fault])
    for name in ("fid", "kid", "sliced_wasserstein"):
        assert values[name] == sorted(values[name])
    for name in ("precision", "density", "coverage", "clipped_density", "clipped_coverage", "parzen_ll"):
        assert values[name] == sorted(values[name], reverse=True)
    if fault == "shift":
        assert values["fid"][1:] == pytest.approx([size**2 for size in sizes[1:]], rel=0.15)
        assert values["sliced_wasserstein"][2:] == pytest.approx([size / MODES**0.5 for size in sizes[2:]], rel=0.1)


def test_less_variety_within_the_modes_lowers_recall_and_raises_precision(real: Tensor, best: dict[str, float]) -> None:
    values = measure(real, mixture(std=0.4))
    assert values["precision"] > 0.98
    assert values["recall"] < 0.2
    assert values["density"] > 2
    assert values["clipped_density"] == 1
    assert values["clipped_coverage"] < 0.85
    assert values["mode_kl"] == pytest.approx(0, abs=0.01)
    assert values["parzen_ll"] > best["parzen_ll"]  # a weak measure (Theis et al., 2016)


def test_distance_to_training_images_distinguishes_copies_from_fresh_images(real: Tensor) -> None:
    train, fresh = mixture(), mixture()
    metric = NearestTraining(stride=1)
    found = []
    for fake in (train, train + 0.2 * torch.randn_like(train), fresh):
        values = compute_metrics(
            {"nearest_training": metric},
            fake=[fake],
            real={"test": [real]},
            validation=lambda n: [real[:n]],
            train=lambda: train.split(500),
            device=real.device,
        )["test"]
        found.append(values["nearest_training"])
    assert found[0] == pytest.approx(0, abs=1e-3)
    assert found[0] < found[1] < 0.5 * found[2]
    assert found[2] == pytest.approx(values["nearest_training_real"], rel=0.05)

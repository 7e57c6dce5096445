import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.datasets import MNIST

from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.data.images import normalize
from gan_lightning.metrics.evaluation import compute_metrics
from gan_lightning.metrics.parzen import SIGMAS, ParzenWindow
from gan_lightning.metrics.reference import reference_for


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(2, 30), st.integers(1, 7))
def test_parzen_window_equals_its_formula(seed: int, n: int, m: int, block_size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    fake, real, validation = (torch.rand(size, 1, 3, 3, generator=generator) * 2 - 1 for size in (n, m, 5))
    metric = ParzenWindow(num_validation=5, block_size=block_size)
    for batch in fake.split(3):
        metric.update(batch, real=False)
    metric.update(real, real=True)
    metric.prepare(validation=lambda n: [validation[:n]], train=list)
    values = metric.compute()

    def likelihoods(images: torch.Tensor, sigma: float) -> torch.Tensor:
        x, centers = ((i.flatten(1).double() + 1) / 2 for i in (images, fake))
        squares = ((x[:, None] - centers[None]) ** 2).sum(2)
        kernels = torch.exp(-squares / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi)) ** 9
        return kernels.mean(1).log()

    sigma = max(SIGMAS, key=lambda s: float(likelihoods(validation, s).mean()))
    assert values.keys() == metric.values.keys()
    assert values["parzen_sigma"].item() == pytest.approx(sigma)
    expected = likelihoods(real, sigma)
    assert values["parzen_ll"].item() == pytest.approx(expected.mean().item(), rel=1e-3, abs=1e-3)
    assert values["parzen_ll_se"].item() == pytest.approx(
        expected.std(correction=0).item() / math.sqrt(m), rel=1e-2, abs=1e-3
    )


def test_real_images_have_the_reference_value(mnist: ImageDataModule) -> None:
    """The first 10,000 training images as centers: 241.2 nats at σ = 0.1668."""
    values = compute_metrics(
        {"parzen": ParzenWindow(num_validation=1000)},
        fake=(normalize(b) for b in mnist.train.images[:10_000].split(1000)),  # type: ignore[union-attr]
        real={"test": (normalize(b) for b in mnist.test.images.split(1000))},
        validation=lambda n: [normalize(mnist.val.images[:n])],
        train=list,
        device=torch.device("cpu"),
    )["test"]
    reference = reference_for(MNIST)["real images"]
    assert values["parzen_ll"] == pytest.approx(reference["parzen_ll"], abs=0.5)
    assert values["parzen_ll_se"] == pytest.approx(2.1, abs=0.1)
    assert values["parzen_sigma"] == pytest.approx(0.1668, abs=1e-4)


def test_images_of_all_ranks_are_counted() -> None:
    fake, real = torch.rand(2, 6, 3, 2, 2).mul(2).sub(1)
    single, synced = (ParzenWindow(num_validation=2) for _ in range(2))
    synced.distributed_available_fn, synced.dist_sync_fn = lambda: True, lambda x, group: [x, x]
    for metric in (single, synced):
        metric.update(fake, real=False)
        metric.update(real, real=True)
        metric.prepare(validation=lambda n: [real[:n]], train=list)
    assert synced.compute()["parzen_ll"] == pytest.approx(single.compute()["parzen_ll"].item())
    assert synced.compute()["parzen_ll_se"] < single.compute()["parzen_ll_se"]  # of twice as many


def test_compute_needs_prepare() -> None:
    with pytest.raises(RuntimeError, match=r"prepare\(\) before compute"):
        ParzenWindow(num_validation=1).compute()


@pytest.mark.parametrize("name", ["num_validation", "block_size"])
def test_arguments_are_validated(name: str) -> None:
    arguments = {"num_validation": 1, "block_size": 1} | {name: 0}
    with pytest.raises(ValueError, match=rf"^{name}=0: .*at least 1"):
        ParzenWindow(**arguments)

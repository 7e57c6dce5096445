import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.data.images import normalise
from gan_lightning.metrics.parzen import SIGMAS, ParzenWindow
from gan_lightning.scoring import score


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(2, 30), st.integers(1, 7))
def test_is_the_formula_written_out(seed: int, n: int, m: int, block_size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    fake, real, validation = (torch.rand(size, 1, 3, 3, generator=generator) * 2 - 1 for size in (n, m, 5))
    metric = ParzenWindow(num_validation=5, block_size=block_size)
    for batch in fake.split(3):
        metric.update(batch, real=False)
    metric.update(real, real=True)
    metric.tune(lambda n: validation[:n])
    figures = metric.compute()

    def likelihoods(images: torch.Tensor, sigma: float) -> torch.Tensor:
        x, centres = ((i.flatten(1).double() + 1) / 2 for i in (images, fake))
        squares = ((x[:, None] - centres[None]) ** 2).sum(2)
        kernels = torch.exp(-squares / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi)) ** 9
        return kernels.mean(1).log()

    sigma = max(SIGMAS, key=lambda s: float(likelihoods(validation, s).mean()))
    assert figures["parzen_sigma"].item() == pytest.approx(sigma)
    expected = likelihoods(real, sigma)
    assert figures["parzen_ll"].item() == pytest.approx(expected.mean().item(), rel=1e-3, abs=1e-3)
    assert figures["parzen_ll_se"].item() == pytest.approx(
        expected.std(correction=0).item() / math.sqrt(m), rel=1e-2, abs=1e-3
    )


def test_real_images_score_what_the_protocol_gives(mnist: ImageDataModule) -> None:
    """The first 10,000 training images as centres: 241.2 nats at σ = 0.1668."""
    figures = score(
        {"parzen": ParzenWindow(num_validation=1000)},
        fake=(normalise(b) for b in mnist.train.images[:10_000].split(1000)),
        real=(normalise(b) for b in mnist.test.images.split(1000)),
        validation=lambda n: normalise(mnist.val.images[:n]),
        train=list,
        device=torch.device("cpu"),
    )
    assert figures["parzen_ll"] == pytest.approx(241.2, abs=0.5)
    assert figures["parzen_ll_se"] == pytest.approx(2.1, abs=0.1)
    assert figures["parzen_sigma"] == pytest.approx(0.1668, abs=1e-4)


def test_images_of_all_ranks_count() -> None:
    fake, real = torch.rand(2, 6, 3, 2, 2).mul(2).sub(1)
    alone, together = (ParzenWindow(num_validation=2) for _ in range(2))
    together.distributed_available_fn, together.dist_sync_fn = lambda: True, lambda x, group: [x, x]
    for metric in (alone, together):
        metric.update(fake, real=False)
        metric.update(real, real=True)
        metric.tune(lambda n: real[:n])
    assert together.compute()["parzen_ll"] == pytest.approx(alone.compute()["parzen_ll"].item())
    assert together.compute()["parzen_ll_se"] < alone.compute()["parzen_ll_se"]  # of twice as many


def test_needs_tuning() -> None:
    with pytest.raises(RuntimeError, match=r"tune\(\) before compute"):
        ParzenWindow(num_validation=1).compute()

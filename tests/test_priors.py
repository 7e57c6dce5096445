import pytest
import torch

from gan_lightning.priors import Normal, Uniform


@pytest.mark.parametrize("kind", [Normal, Uniform])
def test_noise_has_mean_0_and_variance_1_and_is_seeded(kind: type[Normal]) -> None:
    z = kind(dim=100)(2000, generator=torch.Generator().manual_seed(1))
    assert z.shape == (2000, 100)
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - 1) < 0.01
    assert torch.equal(z, kind(dim=100)(2000, generator=torch.Generator().manual_seed(1)))


def test_ranges() -> None:
    assert Uniform(dim=50)(4000).abs().max() <= 3**0.5
    assert Normal(dim=50)(4000).abs().max() > 3

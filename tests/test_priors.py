import pytest
import torch

from gan_lightning.priors import Normal, Signs, Uniform


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


def test_signs_are_equally_likely_and_independent_of_the_rest() -> None:
    z = Signs(dim=6, signs=4)(20_000, generator=torch.Generator().manual_seed(1))
    signs, rest = z[:, :4], z[:, 4:]
    assert set(signs.unique().tolist()) == {-1, 1}
    assert len(signs.unique(dim=0)) == 16
    torch.testing.assert_close(z.T @ z / len(z), torch.eye(6), atol=0.05, rtol=0)
    assert rest.unique().numel() > 30_000
    assert torch.equal(z, Signs(dim=6, signs=4)(20_000, generator=torch.Generator().manual_seed(1)))

import torch

from gan_lightning.latents import Normal


def test_normal_is_standard_and_seeded() -> None:
    z = Normal(dim=100)(2000, generator=torch.Generator().manual_seed(1))
    assert z.shape == (2000, 100)
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - 1) < 0.01
    assert torch.equal(z, Normal(dim=100)(2000, generator=torch.Generator().manual_seed(1)))

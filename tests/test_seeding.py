import torch

from gan_lightning.seeding import fold, reseed


def test_every_position_has_its_own_seed() -> None:
    seeds = {fold(seed, rank, step) for seed in range(3) for rank in range(3) for step in range(100)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert fold(1, 2, 3) == fold(1, 2, 3)


def test_reseed_seeds_torch() -> None:
    reseed(torch.device("cpu"), 1, 2, 3)
    x = torch.rand(3)
    torch.manual_seed(fold(1, 2, 3))
    assert torch.equal(torch.rand(3), x)

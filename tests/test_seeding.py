from gan_lightning.seeding import fold


def test_fold_tells_all_positions_apart() -> None:
    seeds = {fold(seed, rank, step) for seed in range(3) for rank in range(3) for step in range(100)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert fold(1, 2, 3) == fold(1, 2, 3)

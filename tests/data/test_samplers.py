import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gan_lightning.data.samplers import MIXED_BLOCKS, ShuffledBatches, shuffled_order

shapes = st.tuples(
    st.integers(1, 5), st.integers(1, 3), st.integers(1, 6), st.integers(0, 2**32), st.integers(0, 4)
)  # batch size, ranks, batches per pass, seed, remaining images
Shape = tuple[int, int, int, int, int]


@given(shapes)
def test_ranks_share_a_pass_without_overlap(shape: Shape) -> None:
    batch_size, ranks, batches, seed, remaining = shape
    size = batch_size * ranks * batches + min(remaining, batch_size * ranks - 1)
    used = []
    for rank in range(ranks):
        sampler = ShuffledBatches(size=size, batch_size=batch_size, seed=seed, rank=rank, world_size=ranks)
        own = list(sampler)
        assert len(own) == len(sampler) == batches
        assert all(len(batch) == batch_size for batch in own)
        used += [int(index) for batch in own for index in batch]
    assert len(used) == len(set(used)) == batches * batch_size * ranks
    assert set(used) <= set(range(size))


@given(shapes, st.integers(1, 3))
def test_ranks_share_each_minibatch(shape: Shape, minibatches: int) -> None:
    batch_size, ranks, batches, seed, _ = shape
    common = {"size": batch_size * ranks * minibatches * batches, "minibatches": minibatches, "seed": seed}
    whole = ShuffledBatches(batch_size=batch_size * ranks, **common)
    parts = [ShuffledBatches(batch_size=batch_size, rank=r, world_size=ranks, **common) for r in range(ranks)]
    for step, *own in zip(whole, *parts, strict=True):
        for i, minibatch in enumerate(step.chunk(minibatches)):
            assert torch.equal(minibatch, torch.cat([part.chunk(minibatches)[i] for part in own]))


@given(shapes, st.integers(0, 20))
def test_order_is_a_function_of_the_step(shape: Shape, step: int) -> None:
    batch_size, ranks, batches, seed, _ = shape
    common = {"size": batch_size * ranks * batches, "batch_size": batch_size, "seed": seed, "world_size": ranks}
    passes = [b for start in range(0, 40, batches) for b in ShuffledBatches(step=lambda s=start: s, **common)]
    resumed = list(ShuffledBatches(step=lambda: step, **common))
    assert len(resumed) == batches
    assert all(map(torch.equal, resumed, passes[step:]))


def test_each_pass_and_each_seed_has_its_own_order() -> None:
    orders = {
        tuple(torch.cat(list(ShuffledBatches(size=50, batch_size=5, seed=seed, step=lambda s=start: s))).tolist())
        for seed in (0, 1)
        for start in (0, 10, 20)
    }
    assert len(orders) == 6


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_step_larger_than_the_data_repeats_it(world_size: int) -> None:
    ranks = [
        ShuffledBatches(size=4, batch_size=5, seed=0, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    assert len(ranks[0]) == 1
    step = torch.cat([batch for sampler in ranks for batch in sampler])
    counts = step.bincount(minlength=4)
    assert len(step) == 5 * world_size
    assert counts.max() - counts.min() <= 1


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 9), st.integers(0, 2**32))
def test_blocks_give_a_permutation(blocks: list[int], remaining: int, seed: int) -> None:
    size = max(sum(blocks) - remaining, 1)
    order = shuffled_order(size, seed=seed, blocks=[*blocks, 1])
    assert sorted(order.tolist()) == list(range(size))
    assert torch.equal(order, shuffled_order(size, seed=seed, blocks=[*blocks, 1]))


def test_few_blocks_are_in_use_at_a_time_and_their_images_are_mixed() -> None:
    order = shuffled_order(10_000, seed=0, blocks=[100] * 101)
    block = order // 100
    used = [(block == b).nonzero().flatten() for b in range(100)]
    begun, done = (torch.tensor([int(places[i]) for places in used]) for i in (0, -1))
    in_use = torch.tensor([int(((begun <= step) & (step <= done)).sum()) for step in range(0, 10_000, 50)])
    assert MIXED_BLOCKS - 3 < in_use.float().mean() < MIXED_BLOCKS + 1
    assert in_use.max() <= MIXED_BLOCKS + 1
    assert sum(len(batch.unique()) for batch in block.split(50)) / 200 > 4
    assert torch.corrcoef(torch.stack([begun.argsort().argsort(), torch.arange(100)]))[0, 1].abs() < 0.3
    batches = ShuffledBatches(size=10_000, batch_size=50, seed=0, blocks=[100] * 101)
    assert not torch.equal(torch.cat([*batches]), torch.cat([*ShuffledBatches(size=10_000, batch_size=50, seed=0)]))

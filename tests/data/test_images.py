import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.datasets import FakeData

from gan_lightning.data.images import InMemoryImages, ShuffledBatches, StreamedImages, normalise, to_pixels
from tests.helpers import same


def test_pixels_survive_normalisation() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    images = normalise(pixels)
    assert images[0] == -1
    assert images[-1] == 1
    assert torch.equal(to_pixels(images), pixels)


def test_out_of_range_images_are_clamped() -> None:
    assert to_pixels(torch.tensor([-2.0, 2.0])).tolist() == [0, 255]


def test_any_torchvision_style_data_set() -> None:
    data = InMemoryImages.of(FakeData(size=5, image_size=(3, 8, 6), num_classes=4))
    assert data.images.shape == (5, 3, 8, 6)
    assert data.images.dtype == torch.uint8
    assert data.labels.dtype == torch.int64
    assert len(data) == 5


def test_one_index_or_many() -> None:
    data = InMemoryImages(torch.arange(12, dtype=torch.uint8).view(3, 1, 2, 2), torch.tensor([7, 8, 9]))
    image, label = data[1]
    assert image.shape == (1, 2, 2)
    assert label == 8
    images, labels = data[torch.tensor([2, 0])]
    assert images.shape == (2, 1, 2, 2)
    assert labels.tolist() == [9, 7]


shapes = st.tuples(
    st.integers(1, 5), st.integers(1, 3), st.integers(1, 6), st.integers(0, 2**32), st.integers(0, 4)
)  # batch size, ranks, batches in a pass, seed, images left over


@given(shapes)
def test_ranks_share_a_pass_without_overlap(shape: tuple[int, int, int, int, int]) -> None:
    batch_size, ranks, batches, seed, left = shape
    size = batch_size * ranks * batches + min(left, batch_size * ranks - 1)
    seen = []
    for rank in range(ranks):
        sampler = ShuffledBatches(size=size, batch_size=batch_size, seed=seed, rank=rank, world_size=ranks)
        assert len(sampler) == batches
        mine = list(sampler)
        assert all(len(batch) == batch_size for batch in mine)
        seen += [int(index) for batch in mine for index in batch]
    assert len(seen) == len(set(seen)) == batches * batch_size * ranks
    assert set(seen) <= set(range(size))


@given(shapes, st.integers(0, 20))
def test_order_is_a_function_of_the_step(shape: tuple[int, int, int, int, int], step: int) -> None:
    batch_size, ranks, batches, seed, _ = shape
    kept = {"size": batch_size * ranks * batches, "batch_size": batch_size, "seed": seed, "world_size": ranks}
    endless = [b for start in range(0, 40, batches) for b in ShuffledBatches(step=lambda s=start: s, **kept)]
    resumed = list(ShuffledBatches(step=lambda: step, **kept))
    assert all(map(torch.equal, resumed, endless[step:]))


@given(shapes, st.integers(0, 20), st.integers(1, 12))
def test_several_steps_at_once_are_in_the_same_order(
    shape: tuple[int, int, int, int, int], step: int, steps: int
) -> None:
    batch_size, ranks, batches, seed, _ = shape
    kept = {"size": batch_size * ranks * batches, "batch_size": batch_size, "seed": seed, "world_size": ranks}
    sampler = ShuffledBatches(step=lambda: step, steps=steps, **kept)
    at_once = list(sampler)
    n = steps * len(sampler)
    assert len(at_once) == len(sampler) == -(-batches // steps)
    starts = range(step, step + n, batches)
    one_by_one = [b for start in starts for b in ShuffledBatches(step=lambda s=start: s, **kept)][:n]
    assert torch.equal(torch.cat(at_once), torch.cat(one_by_one))


def test_each_pass_and_each_seed_has_an_order_of_its_own() -> None:
    orders = {
        tuple(torch.cat(list(ShuffledBatches(size=50, batch_size=5, seed=seed, step=lambda s=start: s))).tolist())
        for seed in (0, 1)
        for start in (0, 10, 20)
    }
    assert len(orders) == 6


def test_a_batch_larger_than_the_data_never_fills() -> None:
    assert len(ShuffledBatches(size=4, batch_size=5, seed=0)) == 0


def test_what_is_streamed_is_what_memory_would_hold() -> None:
    source = FakeData(size=25, image_size=(3, 8, 6), num_classes=4)
    held, streamed = InMemoryImages.of(source), StreamedImages(source, 20)
    assert len(streamed) == 20
    index = torch.tensor([19, 3, 3])
    assert same(held[index], streamed[index])
    assert torch.equal(torch.cat(list(streamed.parts(7))), held.images[:20])


def test_images_on_a_device_are_indexed_there() -> None:
    held = InMemoryImages.of(FakeData(size=5, image_size=(3, 8, 6))).to(torch.device("meta"))
    images, labels = held[torch.tensor([1, 2])]
    assert (images.device.type, labels.device.type, images.shape) == ("meta", "meta", (2, 3, 8, 6))

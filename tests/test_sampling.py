import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_lightning.sampling import draw
from tests.helpers import tiny_gan


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 30), st.integers(1, 12))
def test_draws_as_many_as_asked_and_a_shorter_draw_is_a_beginning(n: int, batch_size: int) -> None:
    gan = tiny_gan()
    images = torch.cat(list(draw(gan, n, seed=3, batch_size=batch_size)))
    assert images.shape == (n, 1, 4, 4)
    longer = torch.cat(list(draw(gan, n + 5, seed=3, batch_size=batch_size)))
    torch.testing.assert_close(images, longer[:n])


def test_seed_decides_and_nothing_else_is_touched() -> None:
    gan = tiny_gan().train()
    state = torch.get_rng_state()
    a, b, c = (torch.cat(list(draw(gan, 7, seed=seed))) for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), state)
    assert gan.generator.training


def test_batch_norm_uses_what_it_learnt() -> None:
    gan = tiny_gan().train()
    one = torch.cat(list(draw(gan, 1, seed=0)))
    many = torch.cat(list(draw(gan, 50, seed=0)))
    torch.testing.assert_close(one, many[:1])

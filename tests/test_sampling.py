import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_lightning.sampling import draw, show, walk
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


def test_a_walk_is_a_straight_line_in_z() -> None:
    gan = tiny_gan()
    gan.generator = torch.nn.Unflatten(1, (1, 1, 3))  # shows z itself
    images = walk(gan, 2, steps=5, seed=0).view(2, 5, 3)
    steps = images[:, 1:] - images[:, :-1]
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps))
    assert steps.norm() > 0


def test_the_average_is_what_is_shown() -> None:
    gan = tiny_gan(average=lambda network: torch.nn.Unflatten(1, (1, 1, 3)))
    z = torch.randn(4, 3)
    assert torch.equal(show(gan, z).flatten(1), z)


def test_batch_norm_uses_what_it_learnt() -> None:
    gan = tiny_gan().train()
    one = torch.cat(list(draw(gan, 1, seed=0)))
    many = torch.cat(list(draw(gan, 50, seed=0)))
    torch.testing.assert_close(one, many[:1])

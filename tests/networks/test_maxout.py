import torch
from hypothesis import given
from hypothesis import strategies as st

from gan_lightning.networks.maxout import Discriminator, Generator, Maxout


def generator() -> Generator:
    return Generator(latent_dim=100, image_shape=[1, 28, 28], widths=[1200, 1200], weight_bound=0.05)


def discriminator() -> Discriminator:
    return Discriminator(
        image_shape=[1, 28, 28], units=[240, 240], pieces=5, input_dropout=0.2, hidden_dropout=0.5, weight_bound=0.005
    )


def test_sizes_are_the_authors_own() -> None:
    sizes = [[tuple(p.shape) for p in n.parameters() if p.ndim == 2] for n in (generator(), discriminator())]
    assert sizes == [[(1200, 100), (1200, 1200), (784, 1200)], [(1200, 784), (1200, 240), (1, 240)]]


def test_initial_weights_are_the_authors_own() -> None:
    for network, bound in ((generator(), 0.05), (discriminator(), 0.005)):
        for parameter in network.parameters():
            assert parameter.abs().max() <= bound * (parameter.ndim == 2)
            if parameter.ndim == 2:
                assert parameter.abs().max() > 0.9 * bound


@given(st.integers(1, 5), st.integers(1, 4))
def test_maxout_keeps_the_largest_piece(units: int, pieces: int) -> None:
    layer, x = Maxout(3, units, pieces), torch.randn(6, 3)
    outputs = layer.linear(x)
    expected = [[max(outputs[n, u * pieces + p] for p in range(pieces)) for u in range(units)] for n in range(6)]
    assert torch.equal(layer(x), torch.tensor(expected))


def test_the_generator_starts_from_the_mean_image() -> None:
    network, mean = generator(), torch.rand(1, 28, 28) * 1.8 - 0.9
    for parameter in network.visible.parameters():
        torch.nn.init.zeros_(parameter)
    network.start_from_mean(mean)
    torch.testing.assert_close(network(torch.randn(2, 100))[1], mean)


def test_dropout_differs_between_images_and_is_for_training_only() -> None:
    network, image = discriminator(), torch.ones(1, 1, 28, 28)
    logits = network(image.expand(8, -1, -1, -1))
    assert len(logits.unique()) == 8
    assert logits.shape == (8, 1)
    assert len(network.eval()(image.expand(8, -1, -1, -1)).unique()) == 1

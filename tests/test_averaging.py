import pytest
import torch
from torch import nn

from gan_lightning.averaging import ExponentialAverage
from tests.helpers import same, weights


def test_is_the_recurrence_written_out() -> None:
    network = nn.Linear(3, 2)
    average = ExponentialAverage(network, half_life=4, ramp=0.5, latent_scale=1, every_n_steps=2)
    mean = network.weight.detach().clone()
    for step in range(1, 21):
        nn.init.normal_(network.weight)
        average.update(network, step)
        if step % 2 == 0:
            decay = 0.5 ** (2 / min(4, 0.5 * step))
            mean = decay * mean + (1 - decay) * network.weight.detach()
        torch.testing.assert_close(average.network.weight, mean)


def test_half_of_the_past_goes_in_a_half_life() -> None:
    network = nn.Linear(1, 1, bias=False)
    average = ExponentialAverage(network, half_life=8, ramp=1e9, latent_scale=1, every_n_steps=4)
    nn.init.zeros_(network.weight)
    nn.init.ones_(average.network.weight)
    for step in range(1, 9):
        average.update(network, step)
    assert average.network.weight.item() == pytest.approx(0.5)


def test_weights_used_twice_follow_once() -> None:
    layer = nn.Linear(1, 1, bias=False)
    network = nn.Sequential(layer, nn.ReLU(), layer)
    average = ExponentialAverage(network, half_life=1, ramp=1e9, latent_scale=1, every_n_steps=1)
    nn.init.zeros_(average.network[0].weight)
    nn.init.ones_(layer.weight)
    average.update(network, 1)
    assert average.network[2].weight.item() == pytest.approx(0.5)


def test_follows_buffers_and_leaves_the_network_alone() -> None:
    network = nn.BatchNorm1d(2)
    average = ExponentialAverage(network, half_life=1, ramp=1e9, latent_scale=1, every_n_steps=1)
    network(torch.randn(5, 2) + 3)
    before = weights(network)
    average.update(network, 1)
    assert same(weights(network), before)
    torch.testing.assert_close(average.network.running_mean, network.running_mean / 2)
    assert average.network.num_batches_tracked == 1
    assert not any(p.requires_grad for p in average.parameters())


def test_noise_is_scaled() -> None:
    network = nn.Linear(3, 2)
    average = ExponentialAverage(network, half_life=1, ramp=1, latent_scale=1.5)
    z = torch.randn(4, 3)
    torch.testing.assert_close(average(z), network(1.5 * z))

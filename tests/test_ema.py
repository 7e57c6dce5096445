import pytest
import torch
from torch import Tensor, nn

from gan_lightning.ema import EMA
from tests.helpers import same, weights


def test_is_the_recurrence_written_out() -> None:
    network = nn.Linear(3, 2)
    ema = EMA(network, half_life=4, rampup_ratio=0.5, update_interval=2)
    mean = network.weight.detach().clone()
    for step in range(1, 21):
        nn.init.normal_(network.weight)
        ema.update(network, step)
        if step % 2 == 0:
            decay = 0.5 ** (2 / min(4, 0.5 * step))
            mean = decay * mean + (1 - decay) * network.weight.detach()
        torch.testing.assert_close(ema.network.weight, mean)


def test_half_of_the_past_is_replaced_in_a_half_life() -> None:
    network = nn.Linear(1, 1, bias=False)
    ema = EMA(network, half_life=8, rampup_ratio=1e9, update_interval=4)
    nn.init.zeros_(network.weight)
    nn.init.ones_(ema.network.weight)
    for step in range(1, 9):
        ema.update(network, step)
    assert ema.network.weight.item() == pytest.approx(0.5)


def test_shared_weights_are_averaged_once() -> None:
    layer = nn.Linear(1, 1, bias=False)
    network = nn.Sequential(layer, nn.ReLU(), layer)
    ema = EMA(network, half_life=1, rampup_ratio=1e9, update_interval=1)
    nn.init.zeros_(ema.network[0].weight)
    nn.init.ones_(layer.weight)
    ema.update(network, 1)
    assert ema.network[2].weight.item() == pytest.approx(0.5)


def test_follows_buffers_and_does_not_change_the_network() -> None:
    network = nn.BatchNorm1d(2)
    ema = EMA(network, half_life=1, rampup_ratio=1e9, update_interval=1)
    network(torch.randn(5, 2) + 3)
    before = weights(network)
    ema.update(network, 1)
    assert same(weights(network), before)
    torch.testing.assert_close(ema.network.running_mean, network.running_mean / 2)
    assert ema.network.num_batches_tracked == 1
    assert not any(p.requires_grad for p in ema.parameters())


def test_forward_is_the_averaged_networks() -> None:
    class Conditional(nn.Linear):
        def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
            return super().forward(z) * (1 if labels is None else labels)

    ema, z = EMA(Conditional(3, 2), half_life=1, rampup_ratio=1), torch.randn(4, 3)
    assert torch.equal(ema(z), ema.network(z))
    assert torch.equal(ema(z, torch.tensor(2.0)), 2 * ema.network(z))

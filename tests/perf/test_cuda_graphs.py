"""Steps as CUDA graphs, against the same steps launched kernel by kernel; on a CPU, the steps before that."""

from typing import Any

import pytest
import torch

from gan_lightning.ema import EMA
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.losses import Relativistic
from gan_lightning.networks import mlp
from gan_lightning.penalties import R1, R1R2
from gan_lightning.perf.cuda_graphs import GraphedStep, graph_steps
from gan_lightning.simultaneous import SimultaneousGAN
from tests.helpers import fit, same, tiny_gan, weights

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def ema(network: torch.nn.Module) -> EMA:
    return EMA(network, half_life=2, rampup_ratio=1e9, update_interval=1)


def test_the_first_step_of_each_kind_runs_without_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GraphedStep, "leave_default_stream", lambda self: None)
    graphed, expected = (tiny_gan(penalty=R1(gamma=2.0, interval=2)) for _ in range(2))
    graphed_step = graph_steps(graphed)
    for gan in (graphed, expected):
        fit(gan, steps=2)
    assert graphed_step.recordings == {True: None, False: None}
    assert same(weights(graphed), weights(expected))


def test_gamma_must_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GraphedStep, "leave_default_stream", lambda self: None)
    gan = tiny_gan(penalty=R1(gamma=2.0))
    graph_steps(gan)
    fit(gan, steps=1)
    gan.penalty.gamma = 1.0
    with pytest.raises(InputError, match="gamma changes with the step"):
        fit(gan, steps=1)


@needs_gpu
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (GAN, {}),
        (GAN, {"k": 3, "penalty": R1(gamma=2.0, interval=3)}),
        (GAN, {"accumulate_grad_batches": 2, "loss": Relativistic(), "gradient_clip_val": 0.05}),
        (GAN, {"scheduler": lambda optimizer, _: torch.optim.lr_scheduler.StepLR(optimizer, 2), "ema": ema}),
        (SimultaneousGAN, {}),
        (SimultaneousGAN, {"penalty": R1R2(gamma=2.0)}),
    ],
)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_graph_trains_to_the_same_weights(kind: type[GAN], changes: dict[str, Any], precision: str) -> None:
    graphed, expected = (tiny_gan(kind, **changes) for _ in range(2))
    graphed_step = graph_steps(graphed)
    for gan in (graphed, expected):
        trainer, _ = fit(gan, steps=12, accelerator="gpu", precision=precision)
        assert trainer.global_step == 12
    assert all(graphed_step.recordings.values())
    for name, value in weights(expected).items():
        torch.testing.assert_close(weights(graphed)[name], value)


@needs_gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_graph_has_the_power_method_of_spectral_normalization(precision: str) -> None:
    def build() -> GAN:
        torch.manual_seed(0)
        shape, options = [1, 4, 4], {"spectral_norm": True, "num_classes": 6}
        return tiny_gan(discriminator=mlp.Discriminator(image_shape=shape, widths=[8], negative_slope=0.2, **options))

    graphed, expected = build(), build()
    graphed_step = graph_steps(graphed)
    for gan in (graphed, expected):
        fit(gan, steps=12, accelerator="gpu", precision=precision)
    assert all(graphed_step.recordings.values())
    for name, value in weights(expected).items():  # the estimates of the singular vectors among them
        torch.testing.assert_close(weights(graphed)[name], value)


@needs_gpu
def test_a_step_that_waits_for_the_device_cannot_be_recorded() -> None:
    class Waiting(torch.nn.Linear):
        def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
            return super().forward(images.flatten(1)) * images.mean().item()

    gan = tiny_gan(discriminator=Waiting(16, 1))
    graph_steps(gan)
    with pytest.raises(InputError, match=r"^cuda_graphs=true: .*; use compile=false$"):
        fit(gan, steps=3, accelerator="gpu")

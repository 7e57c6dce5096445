"""Steps as CUDA graphs, against the same steps launched kernel by kernel; on a CPU, that they are refused."""

from typing import Any

import pytest
import torch

from gan_lightning.averaging import ExponentialAverage
from gan_lightning.cuda_graphs import GraphedStep, graph_steps
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.losses import Relativistic
from gan_lightning.penalties import R1, R1R2
from gan_lightning.simultaneous import SimultaneousGAN
from tests.helpers import fit, same, tiny_gan, weights

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def average(network: torch.nn.Module) -> ExponentialAverage:
    return ExponentialAverage(network, half_life=2, ramp=1e9, latent_scale=1, every_n_steps=1)


def test_the_first_step_of_each_kind_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GraphedStep, "leave_default_stream", lambda self: None)
    graphed, expected = (tiny_gan(penalty=R1(gamma=2.0, every_n_steps=2)) for _ in range(2))
    steps = graph_steps(graphed)
    for gan in (graphed, expected):
        fit(gan, steps=2)
    assert steps.recordings == {True: None, False: None}
    assert same(weights(graphed), weights(expected))


def test_a_gamma_that_changes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
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
        (GAN, {"k": 3, "penalty": R1(gamma=2.0, every_n_steps=3)}),
        (GAN, {"accumulate_grad_batches": 2, "loss": Relativistic(), "gradient_clip_val": 0.05}),
        (GAN, {"scheduler": lambda optimizer, _: torch.optim.lr_scheduler.StepLR(optimizer, 2), "average": average}),
        (SimultaneousGAN, {}),
        (SimultaneousGAN, {"penalty": R1R2(gamma=2.0)}),
    ],
)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_graph_trains_to_the_same_weights(kind: type[GAN], changes: dict[str, Any], precision: str) -> None:
    graphed, expected = (tiny_gan(kind, **changes) for _ in range(2))
    steps = graph_steps(graphed)
    for gan in (graphed, expected):
        trainer, _ = fit(gan, steps=12, accelerator="gpu", precision=precision)
        assert trainer.global_step == 12
    assert all(steps.recordings.values())
    for name, value in weights(expected).items():
        torch.testing.assert_close(weights(graphed)[name], value)


@needs_gpu
def test_what_cannot_be_recorded_is_refused() -> None:
    class Waiting(torch.nn.Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images.flatten(1)) * images.mean().item()

    gan = tiny_gan()
    gan.discriminator = Waiting(16, 1)
    graph_steps(gan)
    with pytest.raises(InputError, match=r"^cuda_graphs=true: .*; allowed: false$"):
        fit(gan, steps=3, accelerator="gpu")

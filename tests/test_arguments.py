"""Parts validate their own arguments: an error names the argument, its value and what is allowed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning.ema import EMA
from gan_lightning.losses import NonSaturating
from gan_lightning.networks import dcgan, maxout, mlp, resnet
from gan_lightning.penalties import DRAGAN, R1, R1R2, R2, WGANGP, WeightClipping, ZeroCentered
from gan_lightning.priors import Normal, Uniform
from gan_lightning.schedules import cosine_decay, exponential_decay, linear_decay
from gan_lightning.simultaneous import SimultaneousGAN
from tests.helpers import tiny_gan

IMAGES: dict[str, Any] = {"image_shape": [1, 4, 4]}
CONVOLUTIONS: dict[str, Any] = {"image_shape": [1, 8, 8], "width": 2, "max_width": 2}
PARTS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {  # with arguments that are allowed
    "prior": (Normal, {"dim": 2}),
    "uniform prior": (Uniform, {"dim": 2}),
    "penalty": (R1, {"gamma": 1.0}),
    "penalty on generated images": (R2, {"gamma": 1.0}),
    "penalty on both": (R1R2, {"gamma": 1.0}),
    "wgan-gp": (WGANGP, {"gamma": 1.0}),
    "zero-centered penalty": (ZeroCentered, {"gamma": 1.0}),
    "dragan": (DRAGAN, {"gamma": 1.0, "scale": 0.5}),
    "weight clipping": (WeightClipping, {"bound": 0.01}),
    "loss": (NonSaturating, {"label_smoothing": 0.1}),
    "ema": (lambda **values: EMA(nn.Linear(1, 1), **values), {"half_life": 1, "rampup_ratio": 1}),
    "mlp generator": (
        mlp.Generator,
        {"latent_dim": 3, "widths": [8], "negative_slope": 0.2, "batch_norm_eps": 0.8, **IMAGES},
    ),
    "mlp discriminator": (mlp.Discriminator, {"widths": [8], "negative_slope": 0.2, **IMAGES}),
    "maxout generator": (maxout.Generator, {"latent_dim": 3, "widths": [8], "weight_bound": 0.1, **IMAGES}),
    "maxout discriminator": (
        maxout.Discriminator,
        {"units": [4], "pieces": 2, "input_dropout": 0.2, "hidden_dropout": 0.5, "weight_bound": 0.1, **IMAGES},
    ),
    "dcgan generator": (dcgan.Generator, {"latent_dim": 3, "weight_init": "dcgan", **CONVOLUTIONS}),
    "dcgan discriminator": (dcgan.Discriminator, {"negative_slope": 0.2, "weight_init": "default", **CONVOLUTIONS}),
    "resnet generator": (resnet.Generator, {"latent_dim": 3, "blocks": 1, "negative_slope": 0.2, **CONVOLUTIONS}),
    "resnet discriminator": (resnet.Discriminator, {"blocks": 1, "negative_slope": 0.2, **CONVOLUTIONS}),
    "gan": (tiny_gan, {}),
    "simultaneous gan": (lambda **values: tiny_gan(SimultaneousGAN, **values), {}),
    "linear decay": (lambda **values: linear_decay(optimizer(), 10, **values), {"flat": 0.5}),
    "cosine decay": (lambda **values: cosine_decay(optimizer(), 10, **values), {"flat": 0.5}),
    "exponential decay": (lambda **values: exponential_decay(optimizer(), 10, **values), {"base": 1.1, "end": 0.1}),
}


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


@pytest.mark.parametrize(
    ("part", "name", "value", "allowed"),
    [
        ("prior", "dim", 0, "at least 1"),
        ("prior", "dim", 2**31, "below 2"),
        ("uniform prior", "dim", 0, "at least 1"),
        ("penalty", "gamma", -1, "at least 0"),
        ("penalty", "gamma", float("nan"), "at least 0"),
        ("penalty", "gamma", float("inf"), "finite"),
        ("penalty on generated images", "interval", 0, "at least 1"),
        ("penalty on both", "interval", 0, "at least 1"),
        ("wgan-gp", "gamma", -1, "at least 0"),
        ("zero-centered penalty", "interval", 0, "at least 1"),
        ("dragan", "gamma", -1, "at least 0"),
        ("dragan", "scale", -0.5, "at least 0"),
        ("dragan", "scale", float("inf"), "finite"),
        ("weight clipping", "bound", 0, "above 0"),
        ("weight clipping", "bound", float("nan"), "above 0"),
        ("weight clipping", "bound", float("inf"), "finite"),
        ("loss", "label_smoothing", 1, "below 1"),
        ("loss", "label_smoothing", -0.1, "at least 0"),
        ("loss", "label_smoothing", float("nan"), "below 1"),
        ("ema", "half_life", 0, "above 0"),
        ("ema", "rampup_ratio", -1, "above 0"),
        ("ema", "update_interval", 0, "at least 1"),
        ("mlp generator", "latent_dim", 0, "at least 1"),
        ("mlp generator", "image_shape", [1, 0, 4], "at least 1"),
        ("mlp generator", "widths", [], "at least 1"),
        ("mlp generator", "widths", [8, -8], "at least 1"),
        ("mlp generator", "negative_slope", -0.2, "at least 0"),
        ("mlp generator", "negative_slope", float("inf"), "finite"),
        ("mlp generator", "batch_norm_eps", 0, "above 0"),
        ("mlp generator", "batch_norm_eps", float("inf"), "finite"),
        ("mlp generator", "widths", [2**31], "below 2"),
        ("mlp discriminator", "image_shape", [], "at least 1"),
        ("mlp discriminator", "widths", [1.5], "whole numbers"),
        ("mlp discriminator", "negative_slope", -0.2, "at least 0"),
        ("maxout generator", "latent_dim", -1, "at least 1"),
        ("maxout generator", "widths", [], "at least 1"),
        ("maxout generator", "weight_bound", 0, "above 0"),
        ("maxout discriminator", "units", [0], "at least 1"),
        ("maxout discriminator", "pieces", 0, "at least 1"),
        ("maxout discriminator", "input_dropout", 1.5, "between 0 and 1"),
        ("maxout discriminator", "hidden_dropout", -0.5, "between 0 and 1"),
        ("maxout discriminator", "weight_bound", -1, "above 0"),
        ("maxout discriminator", "weight_bound", float("inf"), "finite"),
        ("dcgan generator", "latent_dim", 0, "at least 1"),
        ("dcgan generator", "width", 0, "at least 1"),
        ("dcgan generator", "image_shape", [8, 8], "channels, height and width"),
        ("dcgan generator", "image_shape", [1, 0, 8], "at least 1"),
        ("dcgan generator", "weight_init", "normal", "dcgan or default"),
        ("dcgan generator", "num_classes", 1, "0 .* or at least 2"),
        ("dcgan discriminator", "max_width", 0, "at least 1"),
        ("dcgan discriminator", "negative_slope", -0.2, "at least 0"),
        ("dcgan discriminator", "image_shape", [1, 8, 7], r"the nearest shape is \[1, 8, 8\]"),
        ("resnet generator", "blocks", 0, "between 1 and 100"),
        ("resnet generator", "negative_slope", float("nan"), "at least 0"),
        ("resnet discriminator", "blocks", 10**9, "between 1 and 100"),
        ("resnet discriminator", "max_width", 2**31, "whole numbers"),
        ("gan", "k", 0, "at least 1"),
        ("gan", "accumulate_grad_batches", 0, "at least 1"),
        ("gan", "latent_scale", -1, "at least 0"),
        ("gan", "gradient_clip_val", -1, "at least 0"),
        ("gan", "gradient_clip_algorithm", "size", "norm, value"),
        ("gan", "seed", -1, "at least 0"),
        ("simultaneous gan", "k", 0, "at least 1"),
        ("simultaneous gan", "k", 2, "must be 1"),
        ("simultaneous gan", "accumulate_grad_batches", 2, "must be 1"),
        ("linear decay", "flat", 1.5, "between 0 and 1"),
        ("cosine decay", "flat", -0.5, "between 0 and 1"),
        ("exponential decay", "base", 0.9, "at least 1"),
        ("exponential decay", "end", 2, "between 0 and 1"),
    ],
)
def test_wrong_arguments(part: str, name: str, value: Any, allowed: str) -> None:
    build, arguments = PARTS[part]
    with pytest.raises(ValueError, match=allowed) as error:
        build(**arguments | {name: value})
    assert str(error.value).startswith(f"{name}={value}: ")


@pytest.mark.parametrize("part", PARTS)
def test_right_arguments(part: str) -> None:
    build, arguments = PARTS[part]
    build(**arguments)


@pytest.mark.parametrize("decay", [linear_decay, cosine_decay])
def test_a_decay_needs_an_end(decay: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"trainer\.max_steps"):
        decay(optimizer(), float("inf"), flat=0.5)

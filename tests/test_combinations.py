"""Every loss with every penalty, network and shape of images: a few steps, to finite losses."""

from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import LambdaCallback
from torch import Tensor

from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.run import build, config, schema
from gan_lightning.run.fill_in import fill_in
from tests.helpers import fit

BATCH = 4
TINY = {  # overrides of each network
    "mlp": ["model.generator.widths=[8,8]", "model.discriminator.widths=[8]"],
    "goodfellow2014": ["model.generator.widths=[8]", "model.discriminator.units=[4]", "model.discriminator.pieces=2"],
    "dcgan": [*(f"model.{name}.width=4" for name in build.NETWORKS), "model.discriminator.hidden=4"],
    "resnet": [*(f"model.{name}.width=4" for name in build.NETWORKS), "model.discriminator.hidden=4"],
}
SHAPES = {"mnist": [1, 28, 28], "color": [3, 32, 32], "rectangle": [1, 48, 64]}
REFUSED = {("wasserstein", "none"): "it is unbounded unless D's slope is bounded"}


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (config.CONF / group).glob("*.yaml"))


def composed(*typed: str) -> DictConfig:
    """Compose the default recipe with tiny batches, without an EMA."""
    overrides = ["trainer.accelerator=cpu", f"data.batch_size={BATCH}", "ema=none", "k=1", *typed]
    return fill_in(schema.validate("train", config.compose("train", overrides)), overrides)


def chosen(group: str, choice: str) -> Any:
    """Return what a choice of a group sets; None if it is no part."""
    node = OmegaConf.load(config.CONF / group / f"{choice}.yaml")
    return node if "_target_" in node else None


def train(gan: GAN, shape: list[int]) -> list[dict[str, Tensor]]:
    """Train for two steps on random images, and return what each step does."""
    outputs: list[dict[str, Tensor]] = []
    spy = LambdaCallback(on_train_batch_end=lambda trainer, gan, result, *_: outputs.append(result))
    fit(gan, steps=2, size=BATCH, shape=shape, callbacks=spy)
    return outputs


@pytest.mark.parametrize("shape", ["color", *(pytest.param(s, marks=pytest.mark.slow) for s in SHAPES if s != "color")])
@pytest.mark.parametrize("model", TINY)
def test_every_loss_and_penalty(model: str, shape: str) -> None:
    classes = 2 if shape == "color" else 0
    typed = [f"model={model}", *TINY[model], f"model.num_classes={classes}"]
    base = composed(*typed, f"image_shape={SHAPES[shape]}".replace(" ", ""))
    for loss in choices("loss"):
        for penalty in choices("penalty"):
            base.loss, base.penalty = chosen("loss", loss), chosen("penalty", penalty)
            if reason := REFUSED.get((loss, penalty)):
                with pytest.raises(InputError, match=reason):
                    build.gan(base)
                continue
            for outputs in train(build.gan(base), SHAPES[shape]):
                for name, value in outputs.items():
                    assert value.isfinite().all(), (loss, penalty, name)


@pytest.mark.parametrize("model", TINY)
def test_spectral_normalization_bounds_an_unbounded_loss(model: str) -> None:
    typed = [f"model={model}", *TINY[model], "loss=wasserstein", "penalty=none"]
    gan = build.gan(composed(*typed, "model.discriminator.spectral_norm=true"))
    assert all(value.isfinite().all() for outputs in train(gan, SHAPES["mnist"]) for value in outputs.values())


@pytest.mark.parametrize("penalty", choices("penalty"))
def test_gradient_penalties_need_a_discriminator_without_batch_norm(penalty: str) -> None:
    base = composed("model=dcgan", *TINY["dcgan"], f"penalty={penalty}", "model.discriminator.batch_norm=true")
    if penalty in ("none", "weight_clipping"):
        assert build.gan(base).uses_batch_statistics
    else:
        with pytest.raises(InputError, match=r"^penalty=\w+: needs a discriminator that treats each image separately"):
            build.gan(base)

"""Objects from a config, and what is reported about arguments before any data is read."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torchmetrics import Metric
from torchvision.datasets import MNIST

from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.losses import NonSaturating
from gan_lightning.metrics.evaluation import feature_extractors
from gan_lightning.networks import mlp
from gan_lightning.penalties import R1
from gan_lightning.run import build, config, schema
from gan_lightning.run.fill_in import fill_in
from tests.helpers import SMALL

HERE = "tests.run.test_build"


class Convolution(nn.Module):
    """A user's network, from outside the package."""

    def __init__(self, *, channels: int, kernel: tuple[int, int] = (3, 3), bias: bool | None = None) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, channels, kernel, bias=bool(bias))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layer(images).flatten(1)[:, :1]


class Clipped(GAN):
    """A user's GAN with an argument of its own."""

    def __init__(self, *, clip: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.clip = clip


class VectorLoss:
    """A loss that is no scalar."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return fake_logits - real_logits

    def generator(self, fake_logits: Tensor) -> Tensor:
        return -fake_logits.mean()


class LossOfOne(VectorLoss):
    """A loss that takes too few logits."""

    def discriminator(self, real_logits: Tensor) -> Tensor:  # type: ignore[override]
        return real_logits.mean()


class ImagesOnly(Metric):
    """A metric that does not know which images are real."""

    def update(self, images: Tensor) -> None: ...

    def compute(self) -> Tensor:
        return torch.zeros(())


class MinibatchMean(nn.Module):
    """A user's discriminator that compares each image with its batch, without batch normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(784, 1)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        x = images.flatten(1)
        return self.linear(x - x.mean(0) if self.training else x).square()


class Unbounded(NonSaturating):
    """A loss that needs a bound on D's slope."""

    needs_lipschitz = True


class NeedsIndependentImages(R1):
    """A penalty on the gradient of each image's own logit."""

    needs_independent_images = True


class HalfALoss:
    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return real_logits.mean() - fake_logits.mean()


def make_loss(*, scale: float) -> NonSaturating:
    return NonSaturating()


def filled_in(*typed: str) -> DictConfig:
    overrides = [*SMALL, *typed]
    return fill_in(schema.validate("train", config.compose("train", overrides)), overrides)


def build_all(*typed: str) -> None:
    """Build everything that reads no data."""
    composed = filled_in(*typed)
    build.gan(composed)
    build.data(composed)
    build.callbacks(composed, build.metrics(composed))


def test_gan_and_data() -> None:
    composed = filled_in("penalty=r1", "k=3")
    gan, data = build.gan(composed), build.data(composed)
    assert isinstance(gan.generator, mlp.Generator)
    assert isinstance(gan.loss, NonSaturating)
    assert isinstance(gan.penalty, R1)
    assert gan.ema is not None
    assert gan.generator_optimizer.param_groups[0]["lr"] == 0.002
    assert gan.training
    assert (data.batch_size, data.minibatches_per_step, list(data.image_shape or ())) == (64, 3, [1, 28, 28])
    assert data.dataset.func is MNIST  # by which reference results are found


def with_minibatch_mean(*typed: str) -> DictConfig:
    composed = filled_in(*typed)
    composed.model.discriminator = {"_target_": f"{HERE}.MinibatchMean"}
    return composed


def test_a_discriminator_that_compares_images_is_recognized() -> None:
    assert build.gan(with_minibatch_mean("penalty=none")).uses_batch_statistics
    assert not build.gan(filled_in()).uses_batch_statistics
    with pytest.raises(
        InputError, match=r"^penalty=NeedsIndependentImages: needs a discriminator that treats each image separately"
    ):
        build.gan(with_minibatch_mean(f"penalty._target_={HERE}.NeedsIndependentImages"))


def test_an_unbounded_loss_needs_a_bound() -> None:
    unbounded = f"loss._target_={HERE}.Unbounded"
    with pytest.raises(InputError, match=r"^loss=Unbounded: .*add penalty=wgan_gp"):
        build.gan(filled_in(unbounded, "penalty=none"))
    build.gan(filled_in(unbounded, "penalty=r1"))


def test_an_algorithm_may_have_arguments_of_its_own() -> None:
    composed = filled_in(f"algorithm._target_={HERE}.Clipped", "+algorithm.clip=0.5")
    gan = build.gan(composed)
    assert isinstance(gan, Clipped)
    assert gan.clip == 0.5


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        # unknown, missing or of the wrong type: our own parts, torch's and a user's
        (["+loss.x=1"], "loss.x=1: no such key"),
        (["loss.label_smoothing=1"], "loss.label_smoothing=1.0: must be at least 0 and below 1"),
        (["loss=hinge", "+loss.label_smoothing=0.1"], "loss.label_smoothing=0.1: no such key"),
        (["loss.label_smoothing=x"], "loss.label_smoothing=x: must be a number"),
        (["+penalty.gama=1"], r"penalty.gama=1: .* did you mean penalty.gamma\?"),
        (["+model.discriminator.dropout=5"], "model.discriminator.dropout=5: .*has image_shape, widths"),
        (
            ["+optimizer.generator.weight_deca=1"],
            r"optimizer.generator.weight_deca=1: .*did you mean optimizer.generator.weight_decay\?",
        ),
        (["+algorithm.clip=1"], "algorithm.clip=1: no such key"),
        (["+algorithm.k=1"], "algorithm.k=1: .*"),
        (["~penalty.gamma"], "penalty: .*missing.*'gamma'"),
        (["loss=minimax", f"loss._target_={HERE}.make_loss"], "loss: .*missing.*'scale'"),
        (["loss=minimax", f"loss._target_={HERE}.make_loss", "+loss.scale=x"], "loss.scale=x: must be a number"),
        (["model.latent_dim=1.5"], "model.generator.latent_dim=1.5: must be a whole number"),
        (["model.latent_dim=true"], "model.generator.latent_dim=true: must be a whole number"),
        (["model.generator.widths=16"], "model.generator.widths=16: must be a list"),
        (["model.generator.widths=[a]"], r"model.generator.widths\[0\]=a: must be a whole number"),
        (["optimizer.generator.lr=fast"], "optimizer.generator.lr=fast: must be a number"),
        (["optimizer.generator.fused=3"], "optimizer.generator.fused=3: must be true or false"),
        (["optimizer.generator.lr=null"], "optimizer.generator.lr=null: must be a number"),
        (["optimizer.betas=0.5"], "optimizer.generator.betas=0.5: must be two numbers"),
        (["optimizer.betas=[0.5]"], r"optimizer.generator.betas=\[0.5\]: must be two numbers"),
        (["optimizer.betas=[0.5,0.9,0.9]"], r"optimizer.generator.betas=\[0.5,0.9,0.9\]: must be two numbers"),
        (["optimizer.discriminator.betas=[a,0.9]"], r"optimizer.discriminator.betas=\[a,0.9\]: must be two numbers"),
        (
            ["metrics.fid=null", "+metrics.fid2={_target_: gan_lightning.metrics.distances.FID, features: 2048}"],
            "metrics.fid2.features=2048: must have a class",
        ),
        (["callbacks.sample_grid.every_n_steps=x"], "callbacks.sample_grid.every_n_steps=x: must be a whole number"),
        # values that the part itself refuses
        (["optimizer.generator.lr=-1"], "optimizer.generator.lr=-1: must be a number of at least 0"),
        (["+optimizer.generator.eps=-1"], "optimizer.generator: Invalid epsilon value: -1"),
        (["optimizer.betas=[0.5,2]"], "optimizer.generator: Invalid beta parameter at index 1: 2"),
        (["model.generator.widths=[]"], r"model.generator.widths=\[\]: must be .*at least 1"),
        (["model.latent_dim=0"], "model.generator.latent_dim=0: must be .*at least 1"),
        (["penalty.gamma=-1"], "penalty.gamma=-1.0: must be at least 0"),
        (["ema.half_life=0"], "ema.half_life=0.0: must be above 0"),
        (["optimizer.scheduler.flat=2"], "optimizer.scheduler.flat=2.0: must be between 0 and 1"),
        (["latent_scale=-1"], "latent_scale=-1.0: must be at least 0"),
        (["trainer.gradient_clip_algorithm=x"], "trainer.gradient_clip_algorithm=x: must be one of norm, value"),
        (["trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches=0: must be at least 1"),
        (["data.batch_size=0"], "data.batch_size=0: must be at least 1"),
        (["data.device=warp"], "data.device=warp: must be auto or cpu"),
        (["metrics.parzen.num_validation=0"], "metrics.parzen.num_validation=0: must be at least 1"),
        (["callbacks.validation_metrics.num_images=0"], "callbacks.validation_metrics.num_images=0: must be at least"),
        (["algorithm=simultaneous", "k=2"], "k=2: must be 1.*add k=1"),
        # objects of the wrong kind
        (["loss._target_=nonsense.X"], "loss._target_=nonsense.X: .*No module named 'nonsense'"),
        (
            ["loss._target_=gan_lightning.losses.X"],
            "loss._target_=gan_lightning.losses.X: gan_lightning.losses has no X",
        ),
        (["loss=minimax", "loss._target_=builtins.dict"], "loss._target_=builtins.dict: must have methods"),
        (["loss=minimax", f"loss._target_={HERE}.VectorLoss"], "loss.discriminator: must return a scalar"),
        (
            ["loss=minimax", f"loss._target_={HERE}.LossOfOne"],
            "loss.discriminator: fails on logits .*takes 2 positional arguments",
        ),
        ([f"+metrics.own._target_={HERE}.ImagesOnly"], "metrics.own._target_=.*: .*update.images, real="),
        (["latent_scale=inf"], "latent_scale=inf: must be at least 0 and finite"),
        (["loss=minimax", f"loss._target_={HERE}.HalfALoss"], "loss._target_=.*HalfALoss: must have methods"),
        (["model.generator._target_=builtins.dict"], "model.generator._target_=builtins.dict: .*nn.Module"),
        (["optimizer.generator=null"], "optimizer.generator=null: must have a class"),
        (["+callbacks.odd._target_=builtins.dict"], "callbacks.odd._target_=builtins.dict: .* Lightning callback"),
        (["+metrics.odd._target_=builtins.dict"], "metrics.odd._target_=builtins.dict: must be a Metric"),
        (["+metrics.odd._target_=nonsense.X"], "metrics.odd._target_=nonsense.X: .*No module named 'nonsense'"),
        (["optimizer.discriminator._target_=torch.optim.SGD"], "optimizer.discriminator.betas=.*no such key"),
        (["optimizer.generator._target_=tests.helpers.lbfgs"], "optimizer.generator._target_: LBFGS .*another"),
    ],
)
def test_wrong_arguments(typed: list[str], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        build_all(*typed)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["model.prior.dim=50"], r"model.generator: .*\[2, 50\] of model.prior.*shapes cannot be multiplied"),
        (["model.generator.image_shape=[1,8,8]"], r"model.generator: .*\[1, 8, 8\].*model.image_shape=\[1, 28, 28\]"),
        (["model.discriminator.image_shape=[1,8,8]"], r"model.discriminator: .*images \[2, 1, 28, 28\].*shapes"),
        (["data.batch_size=1"], "data.batch_size=1: must be at least 2"),
    ],
)
def test_networks_that_do_not_fit(typed: list[str], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        build.gan(filled_in(*typed))


def convolution(**arguments: Any) -> DictConfig:
    composed = filled_in()
    composed.model.discriminator = {"_target_": f"{HERE}.Convolution", **arguments}
    return composed


def test_a_users_network_is_checked_as_well() -> None:
    gan = build.gan(convolution(channels=2, kernel=[28, 28]))
    assert gan.discriminator.training
    with pytest.raises(InputError, match=r"^model.discriminator: .*missing.*'channels'"):
        build.gan(convolution())
    with pytest.raises(
        InputError, match=r"^model.discriminator.channel=2: .*did you mean model.discriminator.channels\?"
    ):
        build.gan(convolution(channel=2))
    with pytest.raises(InputError, match=r"^model.discriminator.bias=x: must be true or false"):
        build.gan(convolution(channels=2, bias="x"))
    with pytest.raises(InputError, match=r"^model.discriminator: fails on images \[2, 1, 28, 28\].*[Kk]ernel size"):
        build.gan(convolution(channels=2, kernel=[99, 99]))


def test_logits_have_one_value_per_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Convolution, "forward", lambda self, images, labels=None: images.flatten(1)[:, :3])
    with pytest.raises(InputError, match=r"^model.discriminator: returns \[2, 3\] .*must be logits \[2, 1\]"):
        build.gan(convolution(channels=2))


def test_metrics_on_features_need_features() -> None:
    wanted = ["metrics=default", "metrics.fid=null"]
    composed = OmegaConf.create(OmegaConf.to_container(config.compose("train", wanted), resolve=True))
    assert list(build.metrics(composed)) == [
        "parzen",
        "kid",
        "sliced_wasserstein",
        "precision_recall",
        "clipped",
        "modes",
        "nearest_training",  # and no label_agreement, as there are no labels
    ]
    composed = OmegaConf.create(OmegaConf.to_container(config.compose("train", ["features=none"]), resolve=True))
    assert list(build.metrics(composed)) == ["parzen", "nearest_training"]


def test_random_features_have_no_classes() -> None:
    metrics = build.metrics(config.compose("train", ["data=kmnist", "model.num_classes=10"]))
    assert "fid" in metrics
    assert not {"modes", "label_agreement"}.intersection(metrics)
    extractors = feature_extractors(metrics).values()
    assert len({id(extractor) for extractor in extractors}) == 1  # so that they share its features
    assert {extractor.description for extractor in extractors} == {"random convolutions"}


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("data.channels=3", "1-channel images, and image_shape has 3 channels"),
        ("data.image_size=32", "images of 28 x 28 pixels, and image_shape has 32 x 32"),
    ],
)
def test_features_are_of_the_shape_they_were_made_for(typed: str, reason: str) -> None:
    with pytest.raises(InputError, match=rf"^metrics\.fid: its features are of {reason}; use features=random"):
        build.metrics(config.compose("train", [typed]))


@pytest.mark.parametrize(("size", "measured"), [("32", True), ("33", False), ("[8,384]", False)])
def test_the_log_likelihood_is_of_small_images(size: str, measured: bool) -> None:
    metrics = build.metrics(config.compose("train", ["data=folder", "data.root=x", f"data.image_size={size}"]))
    assert ("parzen" in metrics) == measured


@pytest.mark.parametrize("dataset", ["torchvision.datasets.CIFAR10", "torchvision.datasets.KMNIST", "mine.Digits"])
def test_features_are_of_the_data_they_were_made_for(dataset: str) -> None:
    composed = config.compose("train", [f"data.dataset._target_={dataset}"])
    with pytest.raises(
        InputError, match=rf"features are of .*MNIST.*, and data\.dataset is {dataset}; use features=ran"
    ):
        build.metrics(composed)


def test_a_logger_is_lightnings(tmp_path: Path) -> None:
    composed = config.compose("train", ["logger=csv", "+logger._partial_=true"])
    with pytest.raises(InputError, match=r"^logger._target_=.*CSVLogger: must be a Lightning logger"):
        build.logger(composed, tmp_path, 0)


def test_csv_is_written_as_it_is_logged(tmp_path: Path) -> None:
    logger = build.logger(config.compose("train", ["logger=csv"]), tmp_path, 0)
    logger.log_metrics({"loss": 0.5}, step=50)  # of a run that may be killed
    (written,) = tmp_path.rglob("metrics.csv")
    assert written.read_text().split() == ["loss,step", "0.5,50"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.accelerator=warp", "trainer.accelerator=warp: .*cpu"),
        ("trainer.devices=0", "trainer.devices=0: "),
        ("trainer.precision=abc", "trainer.precision=abc: .*bf16-mixed"),
        ("trainer.strategy=nonsense", "trainer.strategy=nonsense: "),
        ("trainer.limit_val_batches=1.5", r"trainer.limit_val_batches=1.5: .*\[0.0, 1.0\]"),
        ("trainer.val_check_interval=-1", r"trainer.val_check_interval=-1: must be above 0"),
        ("trainer.profiler=x", "trainer.profiler=x: .*simple"),
    ],
)
def test_what_lightning_refuses(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        build.trainer(filled_in(override), tmp_path)


def test_devices() -> None:
    assert build.device("cpu") == torch.device("cpu")
    assert (build.device("auto").type != "cpu") == torch.accelerator.is_available()
    for absent in ("warp", "cpu:x"):
        with pytest.raises(InputError, match=f"^device={absent}: .*must be auto, cpu"):
            build.device(absent)

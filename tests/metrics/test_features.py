import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor
from torchmetrics import Metric

from gan_lightning import config
from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.data.images import normalise
from gan_lightning.errors import InputError
from gan_lightning.metrics.distances import FID, KID
from gan_lightning.metrics.features import FOLDER, Features, Inception, digest, load
from gan_lightning.metrics.modes import Modes
from gan_lightning.metrics.neighbours import PrecisionRecall
from gan_lightning.scoring import score


@pytest.fixture(scope="module")
def features() -> Features:
    return instantiate(config.compose("train").features)


def test_the_classifier_is_right_on_99_4_percent_of_the_test_images(features: Features, mnist: ImageDataModule) -> None:
    right = [
        (features.classify(normalise(images)) == labels).float().mean()
        for images, labels in zip(mnist.test.images.split(1000), mnist.test.labels.split(1000), strict=True)
    ]
    assert float(torch.stack(right).mean()) >= 0.994


def test_the_weights_are_small() -> None:
    assert (FOLDER / "mnist.safetensors").stat().st_size <= 2e6


def test_another_file_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"other")
    with pytest.raises(InputError, match=r"features\.sha256=00: .* has " + digest(b"other")):
        load(weights=str(other), sha256="00")
    with pytest.raises(InputError, match=r"features\.weights=none\.safetensors: no such file"):
        load(weights="none.safetensors", sha256="00")


def scored(metrics: dict[str, Metric], fake: Tensor, real: Tensor) -> dict[str, float]:
    return score(metrics, fake=[fake], real=[real], validation=lambda n: real[:n], train=list, device=real.device)


def test_metrics_share_one_pass(features: Features) -> None:
    passes = []
    hook = features.classifier.features.register_forward_hook(lambda *_: passes.append(1))
    metrics = {"a": PrecisionRecall(features=features, k=1), "b": Modes(features=features)}
    images = [torch.rand(9, 1, 28, 28) for _ in range(2)]
    for _ in range(2):  # the second time, all is known
        scored(metrics, *images)
    hook.remove()
    assert len(passes) == 2


def test_what_is_gone_is_forgotten(features: Features) -> None:
    images = torch.rand(2, 1, 28, 28)
    features(images)
    assert images in features._seen
    before = len(features._seen)
    del images
    assert len(features._seen) == before - 1


def test_stays_frozen(features: Features) -> None:
    assert not features.train().classifier.training
    assert not any(p.requires_grad for p in features.parameters())


@pytest.fixture
def inception_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of Inception's weights as its initialisation has them: the true ones are not in the repository."""
    from torchmetrics.image.fid import NoTrainInceptionV3

    path = tmp_path / "inception.pth"
    with monkeypatch.context() as patch:
        patch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(NoTrainInceptionV3, "load_state_dict", lambda *_: None)
        torch.save(NoTrainInceptionV3("inception", ["2048"]).state_dict(), path)
    return path


def test_inception_by_config(inception_weights: Path) -> None:
    key = "metrics.inception_fid.features.weights"
    composed = config.compose("evaluate", ["metrics=inception", f"{key}={inception_weights}"])
    fid = instantiate(composed.metrics.inception_fid, _convert_="all")
    grey = torch.rand(3, 1, 28, 28) * 2 - 1
    features = fid.inception(grey)
    assert features.shape == (3, 2048)
    assert features.std(dim=0).mean() > 0  # differs from image to image
    torch.testing.assert_close(fid.inception(grey.expand(-1, 3, -1, -1)), features)
    for real in (True, False):
        fid.update(grey, real=real)
    assert fid.real_features_num_samples == fid.fake_features_num_samples == 3


def test_inception_without_weights_is_refused() -> None:
    with pytest.raises(InputError, match=r"weights=none\.pth: no such file"):
        Inception(weights="none.pth")


class FewPixels(torch.nn.Module):
    """Three pixels of an image."""

    num_features = 3

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :3]


def test_fid_is_the_formula_written_out() -> None:
    """‖μ - ν‖² + tr(A + B - 2 (A B)^½), Heusel et al., 2017, equation 6; with diagonal A and B, term by term."""
    n = 200_000
    real = torch.randn(n, 1, 1, 3) * torch.tensor([1.0, 2.0, 0.5])
    fake = torch.randn(n, 1, 1, 3) * torch.tensor([2.0, 2.0, 1.0]) + torch.tensor([0.0, 3.0, 0.0])
    figures = scored({"fid": FID(features=FewPixels())}, fake, real)  # type: ignore[arg-type]
    assert figures["fid"] == pytest.approx(9 + (2 - 1) ** 2 + 0 + (1 - 0.5) ** 2, rel=0.02)


def test_fid_of_too_few_images_or_of_none_that_are_finite_is_nan() -> None:
    real, one, broken = torch.randn(9, 1, 1, 3), torch.randn(1, 1, 1, 3), torch.full((9, 1, 1, 3), torch.nan)
    for fake in (one, broken):
        figures = scored({"fid": FID(features=FewPixels())}, fake, real)  # type: ignore[arg-type]
        assert math.isnan(figures["fid"])


def test_kid_is_zero_for_one_distribution_and_always_the_same() -> None:
    real, same, other = torch.randn(500, 1, 1, 3), torch.randn(500, 1, 1, 3), torch.randn(500, 1, 1, 3) + 2
    metrics = {"kid": KID(features=FewPixels(), subsets=10, subset_size=200)}  # type: ignore[arg-type]
    kid = [scored(metrics, x, real)["kid"] for x in (same, same, other)]
    assert abs(kid[0]) < 0.1
    assert kid[0] == kid[1]
    assert kid[2] > 1


def test_modes() -> None:
    class First(torch.nn.Module):
        num_classes = 4

        def classify(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, 0, 0, 0].long()

    metric = Modes(features=First())  # type: ignore[arg-type]
    metric.update(torch.tensor([0.0, 1, 2, 3]).view(4, 1, 1, 1), real=True)
    metric.update(torch.tensor([0.0, 0, 1, 1]).view(4, 1, 1, 1), real=False)
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found == pytest.approx(
        {"modes": 2, "mode_kl": torch.tensor(2.0).log().item(), "mode_share_min": 0, "mode_share_max": 0.5}
    )

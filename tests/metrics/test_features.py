import hashlib
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from gan_lightning import load
from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.data.images import normalize
from gan_lightning.errors import InputError
from gan_lightning.metrics.distances import FID, KID
from gan_lightning.metrics.evaluation import compute_metrics
from gan_lightning.metrics.features import FOLDER, FeatureExtractor, Inception, RandomFeatures, load_features
from gan_lightning.metrics.modes import Modes
from gan_lightning.metrics.neighbors import NearestTraining, PrecisionRecall
from gan_lightning.run import build, config
from gan_lightning.run.training import train
from gan_lightning.sampling import sample


@pytest.fixture(scope="module")
def features() -> FeatureExtractor:
    weights = "mnist.safetensors"
    return load_features(weights=weights, sha256=hashlib.sha256((FOLDER / weights).read_bytes()).hexdigest())


def test_the_classifier_has_99_4_percent_test_accuracy(features: FeatureExtractor, mnist: ImageDataModule) -> None:
    correct = [
        (features.classify(normalize(images)) == labels).float().mean()
        for images, labels in zip(mnist.test.images.split(1000), mnist.test.labels.split(1000), strict=True)
    ]
    assert float(torch.stack(correct).mean()) >= 0.994


def test_the_weights_are_at_most_2_mb() -> None:
    assert (FOLDER / "mnist.safetensors").stat().st_size <= 2e6


def test_a_file_with_another_sha256_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"other")
    found = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(InputError, match=rf"features\.sha256=00: .*{re.escape(str(other))}.*{found}"):
        load_features(weights=str(other), sha256="00")


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(InputError, match=r"features\.weights=none\.safetensors: no such file"):
        load_features(weights="none.safetensors", sha256="00")


def computed(metrics: dict[str, Metric], fake: Tensor, real: Tensor) -> dict[str, float]:
    images: dict[str, Any] = {
        "fake": [fake],
        "real": {"test": [real]},
        "validation": lambda n: [real[:n]],
        "train": list,
    }
    return compute_metrics(metrics, **images, device=real.device)["test"]


def test_metrics_share_one_forward_pass(features: FeatureExtractor) -> None:
    passes = []
    hook = features.classifier.features.register_forward_hook(lambda *_: passes.append(1))
    metrics = {"a": PrecisionRecall(features=features, k=1), "b": Modes(features=features)}
    images = [torch.rand(9, 1, 28, 28) for _ in range(2)]
    for _ in range(2):  # the second time, all features are cached
        computed(metrics, *images)
    hook.remove()
    assert len(passes) == 2


def test_the_cache_holds_no_tensor_that_was_deleted(features: FeatureExtractor) -> None:
    images = torch.rand(2, 1, 28, 28)
    features(images)
    assert images in features._cache
    before = len(features._cache)
    del images
    assert len(features._cache) == before - 1


def test_the_classifier_stays_frozen(features: FeatureExtractor) -> None:
    assert not features.train().classifier.training
    assert not any(p.requires_grad for p in features.parameters())


@pytest.fixture
def inception_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of Inception's initial weights; the trained ones are not in the repository."""
    from torchmetrics.image.fid import NoTrainInceptionV3

    path = tmp_path / "inception.pth"
    with monkeypatch.context() as patch:
        patch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(NoTrainInceptionV3, "load_state_dict", lambda *_: None)
        torch.save(NoTrainInceptionV3("inception", ["2048"]).state_dict(), path)
    return path


def test_fid_on_inception(inception_weights: Path) -> None:
    fid = FID(features=Inception(weights=str(inception_weights)))
    gray = torch.rand(3, 1, 28, 28) * 2 - 1
    features = fid.inception(gray)
    assert features.shape == (3, 2048)
    assert features.std(dim=0).mean() > 0  # differs from image to image
    torch.testing.assert_close(fid.inception(gray.expand(-1, 3, -1, -1)), features)
    for real in (True, False):
        fid.update(gray, real=real)
    assert fid.real_features_num_samples == fid.fake_features_num_samples == 3


def test_inception_without_its_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^weights=none\.pth: no such file"):
        Inception(weights="none.pth")
    torch.save({}, other := tmp_path / "other.pth")
    with pytest.raises(ValueError, match=rf"^weights={other}: must be torch-fidelity's file of Inception's weights$"):
        Inception(weights=str(other))


class FewPixels(torch.nn.Module):
    """Three pixels of an image."""

    num_features = 3

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3]


def test_fid_equals_its_formula() -> None:
    """‖μ - ν‖² + tr(A + B - 2 (A B)^½), Heusel et al., 2017, equation 6; with diagonal A and B, term by term."""
    n = 200_000
    real = torch.randn(n, 1, 1, 3) * torch.tensor([1.0, 2.0, 0.5])
    fake = torch.randn(n, 1, 1, 3) * torch.tensor([2.0, 2.0, 1.0]) + torch.tensor([0.0, 3.0, 0.0])
    values = computed({"fid": FID(features=FewPixels())}, fake, real)
    assert values["fid"] == pytest.approx(9 + (2 - 1) ** 2 + 0 + (1 - 0.5) ** 2, rel=0.02)


def test_fid_of_too_few_or_not_finite_images_is_nan() -> None:
    real, one, broken = torch.randn(9, 1, 1, 3), torch.randn(1, 1, 1, 3), torch.full((9, 1, 1, 3), torch.nan)
    for fake in (one, broken):
        values = computed({"fid": FID(features=FewPixels())}, fake, real)
        assert math.isnan(values["fid"])


def test_kid_is_near_zero_for_equal_distributions_and_deterministic() -> None:
    real, same, other = torch.randn(500, 1, 1, 3), torch.randn(500, 1, 1, 3), torch.randn(500, 1, 1, 3) + 2
    metrics: dict[str, Metric] = {"kid": KID(features=FewPixels(), subsets=10, subset_size=200)}
    state = torch.get_rng_state()
    kid = [computed(metrics, x, real)["kid"] for x in (same, same, other)]
    assert torch.equal(torch.get_rng_state(), state)
    assert abs(kid[0]) < 0.1
    assert kid[0] == kid[1]
    assert kid[2] > 1


def test_kid_takes_all_images_if_there_are_fewer_than_a_subset_has() -> None:
    metric = KID(features=FewPixels(), subsets=2, subset_size=200)
    few, many = torch.randn(50, 1, 1, 3), torch.randn(300, 1, 1, 3)
    for images, size in ((few, 50), (many, 200)):
        assert math.isfinite(computed({"kid": metric}, images, images)["kid"])
        assert metric.subset_size == size


@pytest.mark.parametrize("name", ["subsets", "subset_size"])
def test_kid_validates_its_arguments(name: str) -> None:
    arguments = {"subsets": 1, "subset_size": 1} | {name: 0}
    with pytest.raises(ValueError, match=rf"^{name}=0: .*at least 1"):
        KID(features=FewPixels(), **arguments)


def test_modes() -> None:
    class First(torch.nn.Module):
        num_classes = 4

        def classify(self, images: Tensor) -> Tensor:
            return images[:, 0, 0, 0].long()

    metric = Modes(features=First())
    metric.update(torch.tensor([0.0, 1, 2, 3]).view(4, 1, 1, 1), real=True)
    metric.update(torch.tensor([0.0, 0, 1, 1]).view(4, 1, 1, 1), real=False)
    values = {name: float(value) for name, value in metric.compute().items()}
    assert values == pytest.approx({"modes": 2, "mode_kl": math.log(2), "mode_share_min": 0, "mode_share_max": 0.5})
    assert values.keys() == metric.values.keys()
    against_uniform = Modes(features=First(), uniform=True)
    for classes, real in (([0.0, 0, 0, 0], True), ([0.0, 0, 0, 1, -1], False)):  # -1: none
        against_uniform.update(torch.tensor(classes).view(-1, 1, 1, 1), real=real)
    values = {name: float(value) for name, value in against_uniform.compute().items()}
    kl = 0.75 * math.log(3) + 0.25 * math.log(1)
    assert values == pytest.approx({"modes": 2, "mode_kl": kl, "mode_share_min": 0, "mode_share_max": 0.75})


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 8), (3, 64, 48), (3, 1, 300), (3, 256, 256)])
def test_random_features_are_of_images_of_any_shape(shape: tuple[int, int, int]) -> None:
    images = torch.rand(3, *shape).mul(2).sub(1)
    features = RandomFeatures()(images)
    assert features.shape == (3, RandomFeatures.num_features)
    assert features.isfinite().all()
    assert torch.equal(features, RandomFeatures()(images.clone()))  # the same weights each time
    assert not torch.equal(features, RandomFeatures()(-images))


@pytest.mark.slow  # 4 minutes
def test_random_features_rank_runs_as_the_classifier_does(mnist: ImageDataModule, tmp_path: Path) -> None:
    """The default recipe at five lengths: FID, KID, precision, recall and coverage order the runs in the same way."""
    extractors = {"mnist": build.part(config.compose("train"), "features"), "random": RandomFeatures()}
    real, found = [normalize(mnist.test.images)], {name: [] for name in extractors}
    for steps in (100, 200, 400, 800, 1600):
        overrides = [f"trainer.max_steps={steps}", "callbacks.final_evaluation=null", "trainer.val_check_interval=9999"]
        train(config.compose("train", overrides), tmp_path / str(steps), overrides)
        fake = [*sample(load(tmp_path / str(steps)), 10_000, seed=0)]
        for name, features in extractors.items():
            metrics = {"fid": FID(features=features), "neighbors": PrecisionRecall(features=features, k=3)}
            images: dict[str, Any] = {"fake": fake, "real": {"test": real}, "validation": list, "train": list}
            found[name].append(compute_metrics(metrics, **images, device=real[0].device)["test"])
    for value in ("fid", "precision", "recall", "coverage"):
        orders = [sorted(range(5), key=lambda i: values[i][value]) for values in found.values()]
        assert orders[0] == orders[1], (value, found)


def test_what_metrics_keep_does_not_grow_with_the_images_size() -> None:
    features = RandomFeatures()
    metrics = [NearestTraining(stride=1), PrecisionRecall(features=features, k=3)]
    metrics += [KID(features=features, subsets=1, subset_size=1), FID(features=features)]
    kept = []
    for size in (64, 256):
        for metric in metrics:
            metric.reset()
            metric.update(torch.rand(4, 3, size, size), real=False)
        states = [state for metric in metrics for name in metric._defaults for state in [getattr(metric, name)]]
        tensors = [tensor for state in states for tensor in (state if isinstance(state, list) else [state])]
        kept.append(sum(tensor.untyped_storage().nbytes() for tensor in tensors))
    assert kept[0] == kept[1]

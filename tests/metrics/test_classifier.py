import pytest
import torch

from gan_lightning.metrics.classifier import Classifier, ClassifierTraining, random_affine


def test_maps_images_to_features_and_logits() -> None:
    classifier = Classifier(channels=3, num_classes=7, num_features=5).eval()
    images = torch.rand(2, 3, 28, 28) * 2 - 1
    assert classifier.features(images).shape == (2, 5)
    assert classifier(images).shape == (2, 7)


def test_random_affine_without_a_change_is_the_identity() -> None:
    images = torch.rand(3, 1, 28, 28) * 2 - 1
    unchanged = random_affine(images, max_rotation=0, max_scale=0, max_shift=0)
    torch.testing.assert_close(unchanged, images, rtol=0, atol=1e-5)


def test_random_affine_transforms_each_image_and_fills_with_black() -> None:
    images = torch.ones(1, 1, 28, 28).expand(4, -1, -1, -1)
    moved = random_affine(images, max_shift=0.5)
    assert moved.shape == images.shape
    assert moved.min() == -1
    assert moved.max() == pytest.approx(1)
    assert not torch.equal(moved[0], moved[1])


@pytest.mark.parametrize(("name", "value", "allowed"), [("lr", 0.0, "above 0"), ("weight_decay", -1.0, "at least 0")])
def test_training_validates_its_arguments(name: str, value: float, allowed: str) -> None:
    arguments = {"lr": 0.1, "weight_decay": 0.0} | {name: value}
    with pytest.raises(ValueError, match=rf"^{name}={value}: .*{allowed}"):
        ClassifierTraining(Classifier(), **arguments)

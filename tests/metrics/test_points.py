import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_lightning.data.points import Points
from gan_lightning.metrics.labels import LabelAgreement
from gan_lightning.metrics.points import PointFeatures, PointModes
from tests.data.test_points import LAYOUTS, centers


def as_images(points: list[list[float]]) -> Tensor:
    return torch.tensor(points).view(-1, 2, 1, 1)


@pytest.mark.parametrize("layout", ["ring", "grid"])
def test_a_point_is_good_within_three_standard_deviations_of_a_center(layout: str) -> None:
    features, std = PointFeatures(**LAYOUTS[layout]), LAYOUTS[layout]["std"]
    for distance, is_good in ((0, True), (2.99, True), (3.01, False)):
        angle = math.radians(20)
        shift = (distance * std * math.cos(angle), distance * std * math.sin(angle))
        classes = features.classify(as_images([[x + shift[0], y + shift[1]] for x, y in centers(layout)]))
        assert classes.tolist() == (list(range(len(classes))) if is_good else [-1] * len(classes))


@pytest.mark.parametrize(("layout", "expected"), [("ring", 1 - math.exp(-4.5)), ("two_moons", math.erf(3 / 2**0.5))])
def test_as_many_real_points_are_good_as_normal_distributions_have(layout: str, expected: float) -> None:
    data = Points("", train=True, size=50_000, **LAYOUTS[layout])
    classes = PointFeatures(**LAYOUTS[layout]).classify(data.data)
    assert (classes >= 0).float().mean().item() == pytest.approx(expected, abs=0.002)
    good = classes >= 0
    assert torch.equal(classes[good], data.targets[good])


def test_a_point_of_a_spiral_has_the_class_of_its_arm() -> None:
    features, data = PointFeatures(**LAYOUTS["spiral"]), Points("", train=True, size=5000, **LAYOUTS["spiral"])
    outer = torch.linalg.vector_norm(data.data.flatten(1), dim=1) > 0.1  # the arms meet in the center
    classes = features.classify(data.data[outer])
    assert ((classes == data.targets[outer]) | (classes == -1)).all()
    assert (classes >= 0).float().mean() > 0.99


def test_coordinates_are_in_double_precision() -> None:
    features = PointFeatures(**LAYOUTS["ring"])(as_images([[0.25, -0.5]]))
    assert (features.dtype, features.tolist()) == (torch.float64, [[0.25, -0.5]])


def test_modes_and_good_samples() -> None:
    metric = PointModes(features=PointFeatures(**LAYOUTS["ring"]), uniform=True)
    first, second = centers("ring")[:2]
    metric.update(as_images(centers("ring")), real=True)
    metric.update(as_images([first, first, first, second, [0, 0]]), real=False)
    values = {name: float(value) for name, value in metric.compute().items()}
    kl = 0.75 * math.log(0.75 * 8) + 0.25 * math.log(0.25 * 8)
    assert values.keys() == metric.values.keys()
    assert values == pytest.approx(
        {"modes": 2, "good_samples": 0.8, "mode_kl": kl, "mode_share_min": 0, "mode_share_max": 0.75}
    )


def test_without_a_good_sample_there_is_no_mode() -> None:
    metric = PointModes(features=PointFeatures(**LAYOUTS["grid"]))
    metric.update(as_images(centers("grid")), real=True)
    metric.update(as_images([[0.2, 0.2]]), real=False)
    values = metric.compute()
    assert (values["modes"], values["good_samples"]) == (0, 0)


def test_a_point_without_a_class_does_not_agree_with_its_label() -> None:
    metric = LabelAgreement(features=PointFeatures(**LAYOUTS["ring"]))
    first, second = centers("ring")[:2]
    metric.update(as_images([first, second, [0, 0]]), real=False, labels=torch.tensor([0, 1, 1]))
    assert metric.compute()["label_agreement"].item() == pytest.approx(2 / 3)


@pytest.mark.parametrize(("changes", "line"), [({"std": 0}, "^std=0: "), ({"layout": "grid"}, "^modes=8: ")])
def test_arguments_are_validated(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        PointFeatures(**(LAYOUTS["ring"] | changes))

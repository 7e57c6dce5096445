from typing import Any

import pytest
import torch

from gan_lightning.data.gaussian import Gaussian
from gan_lightning.data.images import InMemoryImages, normalize


def test_pixels_have_the_mean_and_the_standard_deviation() -> None:
    train, test = (
        normalize(InMemoryImages.of(Gaussian("", train=train, mean=0.1, std=0.2, size=10_000)).images)
        for train in (True, False)
    )
    assert train.shape == (10_000, 1, 1, 1)
    assert train.mean().item() == pytest.approx(0.1, abs=0.01)
    assert train.std().item() == pytest.approx(0.2, abs=0.01)
    assert not torch.equal(train, test)


@pytest.mark.parametrize(
    ("changes", "line"), [({"std": 0}, r"^std=0: .* above 0"), ({"size": 0}, r"^size=0: .* at least 1")]
)
def test_arguments_are_validated(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Gaussian("", train=True, **({"mean": 0.0, "std": 1.0, "size": 5} | changes))

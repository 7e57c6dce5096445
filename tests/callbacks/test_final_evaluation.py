"""The final evaluation of a run."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchvision.datasets import KMNIST, MNIST

from gan_lightning.callbacks import final_evaluation
from gan_lightning.callbacks.final_evaluation import FinalEvaluation, save_metrics
from gan_lightning.metrics.reference import REFERENCE_IMAGES
from tests import helpers


def test_metrics_json_has_finite_values_only(tmp_path: Path) -> None:
    values = {"fid": 0.5, "parzen_ll": -math.inf, "kid": math.nan, "seed": 3}
    save_metrics(values, tmp_path / "new" / "metrics.json")
    assert json.loads((tmp_path / "new" / "metrics.json").read_text()) == {"fid": 0.5, "seed": 3}


def test_arguments() -> None:
    with pytest.raises(ValueError, match=r"^num_images=0: must be at least 1"):
        FinalEvaluation(metrics={}, num_images=0, seed=0, hyperparameters={})


@pytest.mark.parametrize(
    ("dataset", "num_images", "words"),
    [
        (MNIST, REFERENCE_IMAGES, "10,000 samples; 500 test"),
        (MNIST, 200, "With num_images=10000, references are shown."),
        (KMNIST, 200, "200 samples; 500 test and 600 validation images."),
    ],
)
def test_references_are_of_mnist_and_as_many_samples(
    monkeypatch: pytest.MonkeyPatch, dataset: type, num_images: int, words: str
) -> None:
    def evaluate(*_: object, on_progress: object, **__: object) -> dict[str, dict[str, float]]:
        on_progress("FID", 0.5)  # type: ignore[operator]
        return {"validation": {"fid": 1.0}, "test": {"fid": 2.0}}

    monkeypatch.setattr(final_evaluation, "evaluate", evaluate)
    data = SimpleNamespace(dataset=dataset, test=range(500), val=range(600))
    values, table = final_evaluation.evaluate_with_progress(None, data, {}, num_images=num_images, seed=0)  # type: ignore[arg-type]
    assert values == {"fid": 2.0, "val_fid": 1.0, "num_images": num_images, "num_test": 500, "num_validation": 600}
    comparable = dataset is MNIST and num_images == REFERENCE_IMAGES
    assert all((word in table.splitlines()[0]) == comparable for word in ("article", "paper", "real images"))
    assert words in " ".join(table.split())


def test_a_run_that_has_diverged_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    diverging = ("optimizer.lr=1e8", "optimizer=sgd", "penalty=none", "callbacks.stop_on_nan=null")
    run = helpers.run(tmp_path / "run", *diverging)
    metrics = json.loads((run / "metrics.json").read_text())
    assert "parzen_ll" not in metrics
    assert metrics["images_seen"] == 12 * 64
    assert "nan" in caplog.text

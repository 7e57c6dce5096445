"""The final evaluation of a run."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups
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


def hparams_tab(folder: Path) -> tuple[set[str], dict[str, dict[str, float]]]:
    """Return what TensorBoard's HPARAMS tab shows of a folder: names of hyperparameters, and the metrics by run."""
    events = EventMultiplexer().AddRunsFromDirectory(str(folder))
    events.Reload()
    context = backend_context.Context(TBContext(data_provider=MultiplexerDataProvider(events, str(folder))))
    experiment = get_experiment.Handler(RequestContext(), context, "", api_pb2.GetExperimentRequest()).run()
    columns = [api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos]
    shown = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=[api_pb2.STATUS_SUCCESS], col_params=columns, slice_size=100
    )
    groups = list_session_groups.Handler(RequestContext(), context, "", shown).run().session_groups
    runs = [session for group in groups for session in group.sessions]
    values = {run.name: {value.name.tag: value.value for value in run.metric_values} for run in runs}
    return {info.name for info in experiment.hparam_infos}, values


def test_tensorboard_lists_the_jobs_of_a_sweep_with_their_final_metrics(tmp_path: Path) -> None:
    """The columns are those of all jobs, each of which has one that the other lacks."""
    jobs = {"0": ["penalty=none"], "penalty=r1,k=1/1": ["penalty=r1", "metrics.parzen=null"]}
    for name, overrides in jobs.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        helpers.run(tmp_path / name, "trainer.max_steps=2", *overrides)
    hyperparameters, values = hparams_tab(tmp_path)
    assert {"seed", "k", "penalty.gamma", "optimizer.lr"} <= hyperparameters
    assert "model.generator.negative_slope" not in hyperparameters  # which no job has changed
    assert values.keys() == {f"{name}/tensorboard/hparams" for name in jobs}
    for name in jobs:
        shown = {tag.removeprefix("test/"): value for tag, value in values[f"{name}/tensorboard/hparams"].items()}
        assert len(shown) > 2
        final = helpers.metrics(tmp_path / name)
        assert shown == pytest.approx({tag: final[tag] for tag in shown}, rel=1e-6)  # events hold single precision
    assert "test/parzen_ll" in values["0/tensorboard/hparams"]

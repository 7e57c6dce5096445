"""Pictures, hyperparameters and final metrics in loggers other than TensorBoard.

The loggers are Lightning's and this package's own, on fakes of what they call: the packages are not dependencies.
"""

import csv
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL.Image import Image
from pytorch_lightning.loggers import CometLogger, MLFlowLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger

from gan_lightning.callbacks import final_evaluation
from gan_lightning.callbacks.final_evaluation import FinalEvaluation
from gan_lightning.callbacks.paper_figures import PaperFigures
from gan_lightning.callbacks.sample_grid import SampleGrid
from gan_lightning.loggers import TrackioLogger
from gan_lightning.run import build, config
from tests import helpers
from tests.callbacks.conftest import Train

Logged = list[tuple[str, Any, int | None]]  # name, value, step; of hyperparameters without a step


class Wandb(WandbLogger):
    """Weights & Biases: pictures are metrics of a step."""

    class Run:
        def __init__(self, logged: Logged) -> None:
            self.logged = logged
            self.config = SimpleNamespace(update=self.update)

        def update(self, params: dict[str, Any], allow_val_change: bool) -> None:
            self.logged += [(name, value, None) for name, value in params.items()]

        def log(self, data: dict[str, Any]) -> None:
            step = data.pop("trainer/global_step")
            self.logged += [(name, v[0] if isinstance(v, list) else v, step) for name, v in data.items()]

    def __init__(self, logged: Logged) -> None:
        Logger.__init__(self)
        self._prefix, self._wandb_init, self._experiment = "", {}, Wandb.Run(logged)
        self._project = self._id = self._save_dir = None

    @property
    def experiment(self) -> Any:
        return self._experiment

    def finalize(self, status: str) -> None: ...


class MLFlow(MLFlowLogger):
    """MLflow: everything is sent to a client with the run's identifier."""

    class Client:
        def __init__(self, logged: Logged) -> None:
            self.logged = logged

        def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
            assert run_id == "1"
            assert not any("[" in param.key for param in params)  # an MlflowException
            self.logged += [(metric.key, metric.value, metric.step) for metric in metrics]
            self.logged += [(param.key, param.value, None) for param in params]

        def log_image(
            self, run_id: str, image: Image, artifact_file: str | None = None, key: str = "", step: int | None = None
        ) -> None:
            assert run_id == "1"
            assert artifact_file is None
            self.logged.append((key, image, step))

    def __init__(self, logged: Logged) -> None:
        Logger.__init__(self)
        self._prefix, self._run_id, self._tracking_uri, self._log_model = "", "1", "http://", False
        self._log_batch_kwargs: dict[str, Any] = {}
        self._mlflow_client, self._initialized, self._experiment_id = MLFlow.Client(logged), True, "2"

    def finalize(self, status: str = "") -> None: ...


class Comet(CometLogger):
    """Comet: an experiment with methods of its own."""

    class Experiment:
        def __init__(self, logged: Logged) -> None:
            self.logged = logged

        def __internal_api__log_parameters__(self, parameters: dict[str, Any], **_: Any) -> None:
            self.logged += [(name, value, None) for name, value in parameters.items()]

        def __internal_api__set_model_graph__(self, **_: Any) -> None: ...

        def __internal_api__log_metrics__(self, metrics: dict[str, Any], step: int, **_: Any) -> None:
            self.logged += [(name, value, step) for name, value in metrics.items()]

        def log_image(self, image_data: Image, name: str | None = None, step: int | None = None) -> None:
            self.logged.append((str(name), image_data, step))

    def __init__(self, logged: Logged) -> None:
        Logger.__init__(self)
        self._experiment, self._prefix = Comet.Experiment(logged), None
        self._project_name = self._experiment_key = None
        self._comet_config = SimpleNamespace(offline_directory=None)

    def finalize(self, status: str) -> None: ...


class Trackio(TrackioLogger):
    """Trackio: the hyperparameters are sent with the first metrics."""

    class Run:
        def __init__(self, logged: Logged) -> None:
            self.logged, self.config = logged, {}

        def log(self, metrics: dict[str, Any], step: int | None) -> None:
            if not self.logged:
                self.logged += [(name, value, None) for name, value in self.config.items()]
            self.logged += [(name, value, step) for name, value in metrics.items()]

    def __init__(self, logged: Logged) -> None:
        super().__init__(project="gans")
        sys.modules["trackio"].init = lambda **_: Trackio.Run(logged)  # type: ignore[attr-defined]


@pytest.fixture
def _packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for what the loggers import when they log."""
    entities = ModuleType("mlflow.entities")
    entities.Param = entities.Metric = SimpleNamespace  # type: ignore[attr-defined]
    wandb = ModuleType("wandb")
    wandb.Image = lambda image: image  # type: ignore[attr-defined]
    trackio = ModuleType("trackio")
    trackio.Image, trackio.finish = wandb.Image, lambda: None  # type: ignore[attr-defined]
    for module in (ModuleType("mlflow"), entities, wandb, trackio):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("_packages")
@pytest.mark.parametrize("kind", [Wandb, MLFlow, Comet, Trackio])
def test_every_logger_gets_everything(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Any]
) -> None:
    results = {"validation": {"fid": 1.0}, "test": {"fid": 2.0}}
    monkeypatch.setattr(final_evaluation, "evaluate", lambda *_, **__: results)
    logged: Logged = []
    evaluation = FinalEvaluation(metrics={}, num_images=9, seed=0, hyperparameters={"k": 1, "model.image_shape[0]": 28})
    train(SampleGrid(every_n_steps=4), PaperFigures(seed=0), evaluation, logger=kind(logged))
    pictures = {(name, step): value for name, value, step in logged if isinstance(value, Image)}
    steps = {("samples", step): (14, 14) for step in (0, 4, 6)}  # 2 x 2 images of 4 x 4
    assert {key: image.size for key, image in pictures.items()} == steps | {
        (tag, step): size
        for step in (3, 6)
        for tag, size in (("samples/nearest", (42, 8)), ("samples/interpolation", (74, 50)))
    }
    values = {(name, step): value for name, value, step in logged if not isinstance(value, Image)}
    assert {key: int(value) for key, value in values.items() if key[1] is None} == {
        ("k", None): 1,
        ("model.image_shape.0", None): 28,
    }
    assert (values["final/fid", 6], values["final/val_fid", 6]) == (2.0, 1.0)


def test_figure_1_is_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []
    monkeypatch.setattr("gan_lightning.callbacks.figure1.log_picture", lambda *picture: logged.append(picture))
    callback = "{_target_: gan_lightning.callbacks.figure1.Figure1, at: [3]}"
    small = ("data=gaussian", "model=mlp_1d", "callbacks.sample_grid=null", "trainer.max_steps=3")
    helpers.run(tmp_path / "run", *small, f"+callbacks.figure1={callback}")
    ((trainer, tag, picture),) = logged
    assert (trainer.global_step, tag, list(picture.shape)) == (3, "figures/snapshots", [3, 400, 340])
    assert picture.float().std() > 0


def test_a_csv_file_has_the_final_metrics(tmp_path: Path) -> None:
    run = helpers.run(tmp_path / "run", "logger=csv")
    with (run / "csv" / "version_0" / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["final/parzen_ll"]) == pytest.approx(json.loads((run / "metrics.json").read_text())["parzen_ll"])
    assert "optimizer.lr: 0.001" in (run / "csv" / "version_0" / "hparams.yaml").read_text()


class OwnLogger(Logger):
    """A user's logger, which wants no folder."""

    def __init__(self, *, level: int = 0) -> None:
        super().__init__()

    name = version = "own"

    def log_metrics(self, *_: Any, **__: Any) -> None: ...

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...


@pytest.mark.parametrize(
    ("target", "argument", "folder"),
    [
        ("pytorch_lightning.loggers.WandbLogger", "save_dir", "a b"),
        ("pytorch_lightning.loggers.CometLogger", "offline_directory", "a b"),
        ("pytorch_lightning.loggers.LitLogger", "root_dir", "a b"),
        ("pytorch_lightning.loggers.MLFlowLogger", "save_dir", "a%20b/mlruns"),
        (f"{__name__}.OwnLogger", None, None),
    ],
)
def test_a_logger_writes_into_the_runs_folder(
    monkeypatch: pytest.MonkeyPatch, target: str, argument: str | None, folder: str | None
) -> None:
    composed = config.compose("train", ["logger=csv"])
    composed.logger = {"_target_": target}
    monkeypatch.setattr(build, "part", lambda config, key, **extra: extra)
    assert build.logger(composed, Path("a b"), 5) == ({argument: folder} if argument else {})

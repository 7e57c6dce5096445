"""Loggers that Lightning does not have."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from PIL.Image import Image
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only


class TrackioLogger(Logger):
    """Log to `Trackio <https://huggingface.co/docs/trackio>`_, as the command ``trackio show`` shows it.

    It writes to ``~/.cache/huggingface/trackio`` or the folder that the environment variable ``TRACKIO_DIR`` names, or
    sends to what ``TRACKIO_SPACE_ID`` or ``TRACKIO_SERVER_URL`` name.

    Args:
        project: Name of the project, whose runs the dashboard compares.
        name: Name of the run; None: one of Trackio's own. A resumed run is a new one.

    Raises:
        ModuleNotFoundError: If trackio is not installed.
    """

    def __init__(self, *, project: str, name: str | None = None) -> None:
        super().__init__()
        try:
            import trackio  # noqa: F401
        except ImportError as error:
            raise ModuleNotFoundError("needs trackio; pip install 'gan-lightning[trackio]'") from error
        self.project, self.run_name = project, name
        self._run: Any = None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Return Trackio's run, which begins when it is first needed."""
        import trackio

        if self._run is None:
            self._run = trackio.init(project=self.project, name=self.run_name, embed=False)
        return self._run

    @property
    def name(self) -> str:
        """Return the project's name."""
        return self.project

    @property
    def version(self) -> str | None:
        """Return the run's name; None before it begins, if Trackio names it."""
        return self._run.name if self._run else self.run_name

    @rank_zero_only
    def log_hyperparams(self, params: Mapping[str, Any], *_: Any, **__: Any) -> None:  # type: ignore[override]
        """Add hyperparameters, which Trackio sends together with the first metrics: later ones are lost."""
        self.experiment.config.update(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics of a step."""
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def log_image(self, key: str, images: Sequence[Image], step: int | None = None) -> None:
        """Log pictures of a step under one name."""
        import trackio

        for image in images:
            self.experiment.log({key: trackio.Image(image)}, step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what has not been written, and end Trackio's run."""
        import trackio

        if self._run is not None:
            trackio.finish()
            self._run = None

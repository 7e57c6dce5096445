"""Memory, open files and threads of long runs: measured, and bounded."""

import gc
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from gan_lightning.callbacks.final_evaluation import evaluate_with_progress
from gan_lightning.data.images import InMemoryImages
from gan_lightning.run import build, config
from gan_lightning.run.checkpoint import Checkpoint
from tests.helpers import call

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc"),
]
TINY = [
    *("trainer.accelerator=cpu", "trainer.precision=32-true", "data.batch_size=4", "k=1", "penalty.interval=16"),
    *("model.latent_dim=8", "model.generator.widths=[8]", "model.discriminator.widths=[8]"),
    *("callbacks.validation_metrics.num_images=100", "callbacks.validation_metrics.num_real=100"),
    *("callbacks.checkpoints.interval=1", "trainer.limit_val_batches=1", "callbacks.final_evaluation=null"),
]
METRICS = ["metrics.parzen.num_validation=100", "metrics.kid.subset_size=50"]
STREAMED = ["data.in_memory=false", "data.num_workers=2"]
# Of growth; batches on their way from a worker are files
BOUNDS = {"memory": 32, "files": 8, "threads": 0, "tasks": 0, "tensors": 10, "objects": 2000}


def use() -> dict[str, float]:
    """Return what this process holds: memory in MiB, open files, threads of Python and in all, and Python's objects."""
    gc.collect()
    pages, objects = int(Path("/proc/self/statm").read_text().split()[1]), gc.get_objects()
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "threads": threading.active_count(),
        "tasks": len(os.listdir("/proc/self/task")),  # noqa: PTH208
        "tensors": sum(issubclass(type(x), torch.Tensor) for x in objects),
        "objects": len(objects),
    }


def assert_bounded(points: list[dict[str, float]]) -> None:
    """Check that nothing grows by more than its bound between a fifth of the points and the last one."""
    early, late = points[len(points) // 5], points[-1]
    print("at a fifth:", early, "at the end:", late)
    for what, bound in BOUNDS.items():
        assert late[what] <= early[what] + bound, (what, [point[what] for point in points])


class Watch(Callback):
    """Append what the process holds to a file, every so many steps."""

    def __init__(self, *, file: str, every: int) -> None:
        self.file, self.every = Path(file), every

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step % self.every == 0:
            with self.file.open("a") as file:
                file.write(json.dumps(use()) + "\n")


@pytest.mark.parametrize(
    ("steps", "overrides"),
    [
        (100_000, ["trainer.val_check_interval=10000"]),
        (1_000, ["trainer.val_check_interval=20", "callbacks.validation_metrics.skip=[]"]),
        (5_000, ["trainer.val_check_interval=500", "trainer.limit_train_batches=100", *STREAMED]),
    ],
    ids=["steps", "validations", "workers"],
)
def test_a_run_does_not_grow(tmp_path: Path, steps: int, overrides: list[str]) -> None:
    watch = f"+callbacks.watch={{_target_: {__name__}.Watch, file: '{tmp_path}/use', every: {steps // 100}}}"
    typed = [*TINY, *METRICS, f"trainer.max_steps={steps}", *overrides, watch, "hydra.run.dir=run"]
    done = call("-m", "gan_lightning.train", *typed, cwd=tmp_path, timeout=1800, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert_bounded([json.loads(line) for line in (tmp_path / "use").read_text().splitlines()])
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names[1:] == ["last.ckpt"]
    assert names[0].startswith("best-")


def test_evaluations_do_not_grow(run: Path) -> None:
    done = call("-m", __name__, str(run), cwd=run, timeout=1800, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert_bounded([json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")])


def evaluate_repeatedly(run: str) -> None:
    """Print what this process holds after each of 50 final evaluations with all metrics."""
    for _ in range(50):
        checkpoint = Checkpoint(run)
        composed = config.compose("evaluate", METRICS)
        composed.features = config.compose("train").features
        data = checkpoint.data(root=None)
        data.val, data.test = (InMemoryImages(s.images[:200], s.labels[:200]) for s in (data.val, data.test))
        evaluate_with_progress(checkpoint.gan(), data, build.metrics(composed), num_images=200, seed=0)
        print(json.dumps(use()))


if __name__ == "__main__":
    evaluate_repeatedly(sys.argv[1])

"""Nothing has double precision on a device: that of a Mac has no float64."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import gan_lightning
from gan_lightning.losses import Minimax
from gan_lightning.metrics.distances import FID, SlicedWasserstein
from gan_lightning.metrics.evaluation import compute_metrics
from gan_lightning.metrics.neighbors import ClippedDensityCoverage, squared_distances
from gan_lightning.metrics.parzen import ParzenWindow
from gan_lightning.run import config, schema
from gan_lightning.run.training import train
from tests import helpers

PACKAGE = Path(gan_lightning.__file__).parent
ON_CPU = ("metrics", "data")  # on a Mac, too: compute_metrics computes there, and data is not on the device yet
IMAGES = [typed for typed in helpers.SMALL if not typed.startswith("model.")]
POINTS = [typed for typed in IMAGES if not typed.startswith("metrics.")]
RUNS = {
    "default": [*helpers.SMALL, "data.flip=true"],
    "conditional": [*helpers.SMALL, "trainer.gradient_clip_val=1"],
    "ring": [*POINTS, "data.dataset.size=2000", "data.val_size=1000"],
    "figure1": [
        *(typed for typed in POINTS if "callbacks" not in typed),
        "callbacks.figure1.at=[1,3]",
        "data.val_size=100",
    ],
}
SLOW = {"goodfellow2014": IMAGES, "wgan_gp": [*IMAGES, "model.generator.width=4", "model.discriminator.width=4"]}


class NoDoubles(TorchDispatchMode):
    """Keep where the package makes tensors of double precision, except for what is always on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls += 1
        tensors = (value for value in tree_leaves(result) if isinstance(value, Tensor))
        if any(tensor.dtype in (torch.float64, torch.complex128) for tensor in tensors):
            frame = sys._getframe()
            while frame.f_back and PACKAGE not in Path(frame.f_code.co_filename).parents:
                frame = frame.f_back
            path = Path(frame.f_code.co_filename)
            if path.parent.name not in ON_CPU:
                self.found.add(f"{path.name}:{frame.f_lineno}: {func}")
        return result


@pytest.mark.parametrize("name", [*RUNS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_run_has_no_double_precision_on_its_device(name: str, tmp_path: Path) -> None:
    typed = [f"experiment={name}", *(RUNS | SLOW)[name], "trainer.max_steps=3", "data.batch_size=8", "cpu_tuning=false"]
    with NoDoubles() as mode:
        train(schema.validate("train", config.compose("train", typed)), tmp_path, typed)
    assert not mode.found
    assert mode.calls > 1000


def test_the_mode_finds_doubles_except_in_data_and_metrics() -> None:
    doubles = torch.zeros(2, 1, dtype=torch.float64)
    with NoDoubles() as mode:
        squared_distances(doubles, doubles)
    assert not mode.found
    with NoDoubles() as mode:
        Minimax().discriminator(doubles, doubles)
    assert {line.partition(":")[0] for line in mode.found} == {"losses.py"}


def test_metrics_of_a_mac_are_computed_on_the_cpu() -> None:
    features = nn.Flatten()
    features.num_features = 4
    metrics = {
        "fid": FID(features=features),
        "parzen": ParzenWindow(num_validation=8),
        "clipped": ClippedDensityCoverage(features=features, k=3),
        "sliced": SlicedWasserstein(features=features, projections=8),
    }
    images = [torch.randn(16, 1, 2, 2, generator=torch.Generator().manual_seed(0))]
    values = compute_metrics(
        metrics,
        fake=images,
        real={"test": images},
        validation=lambda _: images,
        train=lambda: images,
        device=torch.device("mps"),  # which this machine may not have
    )
    assert values["test"]["fid"] == pytest.approx(0, abs=1e-4)
    assert values["test"]["clipped_coverage"] > 0.9

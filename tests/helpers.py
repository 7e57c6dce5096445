"""Small runs for the tests."""

import gc
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from pytorch_lightning import Callback, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gan_lightning.gan import GAN
from gan_lightning.losses import NonSaturating
from gan_lightning.networks import mlp
from gan_lightning.priors import Normal
from gan_lightning.run import config, schema
from gan_lightning.run.training import train

ROOT = Path(__file__).parents[1]
SMALL = [
    "trainer.accelerator=cpu",
    "trainer.max_steps=12",
    "trainer.val_check_interval=5",
    "trainer.log_every_n_steps=2",
    "num_images=200",
    "data.batch_size=64",
    "k=1",
    "callbacks.sample_grid.every_n_steps=5",
    "callbacks.validation_metrics.num_images=100",
    "callbacks.validation_metrics.num_real=100",
    "metrics.parzen.num_validation=100",
    *(f"metrics.{slow}=null" for slow in ("fid", "kid", "sliced_wasserstein", "precision_recall", "clipped")),
    *(f"metrics.{slow}=null" for slow in ("modes", "nearest_training")),
    "callbacks.paper_figures=null",
    "model.generator.widths=[16,16]",
    "model.discriminator.widths=[16]",
]


def run(folder: Path, *overrides: str) -> Path:
    """Train a small GAN within this process."""
    folder.mkdir(exist_ok=True)
    typed = [*SMALL, *overrides]
    train(schema.validate("train", config.compose("train", typed)), folder, typed)
    return folder


def resume(folder: Path, *overrides: str) -> Path:
    """Resume a run from its last checkpoint within this process."""
    typed = [f"checkpoint={folder}/checkpoints/last.ckpt", "trust=tests", *overrides]
    train(schema.validate("train", config.compose("train", typed)), folder, typed)
    return folder


def command(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``python -m gan_lightning.NAME ARGUMENTS`` in a folder, within this process."""
    root, argv, environment = logging.getLogger(), sys.argv, dict(os.environ)
    handlers, level = root.handlers[:], root.level
    out, err, code = StringIO(), StringIO(), None
    sys.argv = [name, *arguments]
    try:
        with chdir(cwd), redirect_stdout(out), redirect_stderr(err):
            import_module(f"gan_lightning.{name}").main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv, root.handlers = argv, handlers
        root.setLevel(level)
        logging.disable(logging.NOTSET)
        HydraConfig.instance().cfg = None
        os.environ.clear()
        os.environ.update(environment)
        gc.enable()
        gc.unfreeze()
    if isinstance(code, str):
        err.write(f"{code}\n")
    number = 1 if isinstance(code, str) else code or 0
    return subprocess.CompletedProcess(arguments, number, out.getvalue(), err.getvalue())


def call(*arguments: str, cwd: Path, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``python ARGUMENTS`` in a folder, with the tests importable."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def lbfgs(parameters: Any, **_: Any) -> torch.optim.LBFGS:
    """Make an optimizer that needs a closure."""
    return torch.optim.LBFGS(parameters)


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Read a run's scalars, as TensorBoard shows them: (step, value) by tag."""
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    # two files begun within one second are read in no particular order
    return {tag: sorted((e.step, e.value) for e in events.Scalars(tag)) for tag in events.Tags()["scalars"]}


def grids(run: Path) -> list[tuple[int, bytes]]:
    """Read a run's sample grids, as TensorBoard shows them: (step, PNG)."""
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    return sorted((e.step, e.encoded_image_string) for e in events.Images("samples"))


def metrics(run: Path) -> dict[str, float]:
    """Read the metrics of a run's final evaluation."""
    return json.loads((run / "metrics.json").read_text())


def last(run: Path) -> dict[str, Any]:
    """Read a run's last checkpoint."""
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def same(a: Any, b: Any) -> bool:
    """Return whether two nested structures of tensors and values are equal, bit for bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def assert_same_run(a: Path, b: Path) -> None:
    """Compare weights, optimizers, schedulers, all of TensorBoard, samples and metrics, but not the clock."""
    assert_same_training(a, b)
    for read in scalars, metrics:
        x, y = ({name: value for name, value in read(run).items() if "second" not in name} for run in (a, b))
        assert x == y
    assert grids(a) == grids(b)
    assert (a / "samples.png").read_bytes() == (b / "samples.png").read_bytes()


def assert_same_training(a: Path, b: Path) -> None:
    """Compare weights, both optimizers and schedulers."""
    x, y = last(a), last(b)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        assert same(x[key], y[key]), key


def tiny_gan(kind: type[GAN] = GAN, **changes: Any) -> GAN:
    """Build a GAN on 4 x 4 images."""
    torch.manual_seed(0)
    parts: dict[str, Any] = {
        "generator": mlp.Generator(
            latent_dim=3, image_shape=[1, 4, 4], widths=[8, 8], negative_slope=0.2, batch_norm_eps=0.8
        ),
        "discriminator": mlp.Discriminator(image_shape=[1, 4, 4], widths=[8], negative_slope=0.2),
        "prior": Normal(dim=3),
        "loss": NonSaturating(),
        "generator_optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        "discriminator_optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.2),
        "k": 1,
        "num_fixed_latents": 4,
        "seed": 0,
    }
    return kind(**(parts | changes))


def fit(
    gan: GAN,
    steps: int,
    size: int = 6,
    accelerator: str = "cpu",
    shape: Sequence[int] = (1, 4, 4),
    **options: Any,
) -> tuple[Trainer, Tensor]:
    """Train for a few steps on random images, labelled 0, 1, 2, ...; return the trainer and the images of each step."""
    n = size * gan.k * gan.accumulate_grad_batches
    images = torch.rand(steps * n, *shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    labels = torch.arange(n) % (gan.num_classes or n)
    batches = [(batch, labels) for batch in images.split(n)]
    trainer = Trainer(
        accelerator=accelerator,
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(gan, DataLoader(batches, batch_size=None))
    return trainer, images.view(steps, n, *shape)


class Unconditional(nn.Sequential):
    """Layers in a row, as a generator or discriminator that ignores labels."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(x)


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Copy a module's parameters and buffers."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


class SignalAt(Callback):
    """Send this process a signal at the beginning of a step."""

    def __init__(self, *, step: int, signum: int) -> None:
        self.step, self.signum = step, signum

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step and trainer.is_global_zero:
            os.kill(os.getpid(), self.signum)


class Spy(Callback):
    """Save each rank's first batch, its logits of generated images in the second step, and its final states."""

    def __init__(self, *, folder: str) -> None:
        self.folder = folder

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any) -> None:
        if trainer.global_step == 0:
            self.batch = batch[0].clone()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        if trainer.global_step == 1:
            self.fake_logits = outputs["logits/fake"]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        state = {"batch": self.batch, "fake_logits": self.fake_logits, "weights": dict(pl_module.state_dict())}
        state["optimizers"] = [optimizer.state_dict() for optimizer in trainer.optimizers]
        torch.save(state, Path(self.folder) / f"{trainer.global_rank}.pt")

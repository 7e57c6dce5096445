"""The paper's Figure 1, for a GAN that generates single numbers."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities import rank_zero_only
from torchvision.transforms.functional import pil_to_tensor

from gan_lightning.callbacks.pictures import log_picture
from gan_lightning.data.images import normalize
from gan_lightning.gan import GAN
from gan_lightning.networks import evaluation_mode
from gan_lightning.sampling import generate, sample

BINS = 64


class Figure1(Callback):
    """Plot the densities of the data and of G together with D, at several steps: ``figure1.png``.

    D is plotted with the optimal discriminator of that generator (Proposition 1), p_data / (p_data + p_g), where either
    density is above 0. Below, as in the paper, arrows lead from equally spaced z to G(z). For loggers it is
    ``figures/snapshots``.

    Args:
        at: The steps to plot.

    Raises:
        ValueError: If there is none, or one below 1.
    """

    def __init__(self, *, at: Sequence[int]) -> None:
        if not at or min(at) < 1:
            raise ValueError(f"at={list(at)}: must be at least one step, each at least 1")
        self.at = at
        self.snapshots: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the snapshots taken so far, for a resumed run."""
        return {"snapshots": self.snapshots}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.snapshots = state_dict["snapshots"]

    @rank_zero_only
    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Compute and keep a snapshot at the given steps."""
        if trainer.global_step in self.at:
            self.snapshots.append({"step": trainer.global_step} | snapshot(pl_module))

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Plot all snapshots side by side."""
        data = torch.cat([normalize(images.cpu()) for images in trainer.datamodule.train.batches()]).flatten()
        figure = plot(self.snapshots, density(data))
        figure.savefig(path := Path(trainer.default_root_dir) / "figure1.png", dpi=100)
        with Image.open(path) as picture:
            log_picture(trainer, "figures/snapshots", pil_to_tensor(picture.convert("RGB")))


def density(x: torch.Tensor) -> list[float]:
    """Return the density of numbers (N,) in [-1, 1], estimated in equal bins."""
    return (torch.histc(x.float().cpu(), BINS, -1, 1) / len(x) * BINS / 2).tolist()


def bin_centers() -> torch.Tensor:
    """Return the centers of the bins, (BINS,)."""
    return (torch.arange(BINS) + 0.5) / BINS * 2 - 1


@torch.no_grad()
def snapshot(gan: GAN) -> dict[str, list[float]]:
    """Return what is plotted of one step.

    Returns:
        ``density``: G's density by bin; ``discriminator``: D at the bins' centers; ``z``: equally spaced noise, and
        ``g``: G(z).
    """
    x = bin_centers().to(gan.fixed_latents)  # its device and dtype
    z = torch.linspace(-(3**0.5), 3**0.5, 16, device=gan.device).unsqueeze(1)
    samples = torch.cat(list(sample(gan, 20_000, seed=0))).flatten()
    with evaluation_mode(gan):  # in training mode, batch normalization would wait for the other devices
        probabilities = gan.discriminator(x.view(-1, 1, 1, 1)).sigmoid()
    return {
        "density": density(samples),
        "discriminator": probabilities.flatten().tolist(),
        "z": z.flatten().tolist(),
        "g": generate(gan, z).flatten().tolist(),
    }


def plot(snapshots: Sequence[dict[str, Any]], data: list[float]) -> Any:
    """Return a matplotlib figure of the snapshots, side by side, with the data's density."""
    from matplotlib.figure import Figure

    x = bin_centers().tolist()
    columns = max(len(snapshots), 1)
    figure = Figure(figsize=(3.4 * columns, 4), layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False, sharex=True, height_ratios=[3, 1])
    for (upper, lower), shot in zip(axes.T, snapshots, strict=False):
        optimal = [p / (p + q) if p + q else math.nan for p, q in zip(data, shot["density"], strict=True)]
        upper.plot(x, data, "k:", label="data")
        upper.plot(x, shot["density"], "g-", label="generator")
        upper.set(title=f"step {shot['step']}", ylim=(0, 1.1 * max(*data, *shot["density"])))
        probability = upper.twinx()
        probability.plot(x, shot["discriminator"], "b--", label="D(x)")
        probability.plot(x, optimal, "b-", linewidth=0.5, label="optimal D(x)")
        probability.set(ylim=(0, 1.1), yticks=[0, 0.5, 1])
        for z, g in zip(shot["z"], shot["g"], strict=True):
            lower.annotate("", (g, 1), (z / 3**0.5, 0), arrowprops={"arrowstyle": "->", "linewidth": 0.6})
        lower.set(ylim=(0, 1), yticks=[0, 1], yticklabels=["z / √3", "x"], xlim=(-1, 1), xlabel="x")
        if shot is snapshots[0]:
            upper.set_ylabel("density")
            handles = upper.get_legend_handles_labels()[0] + probability.get_legend_handles_labels()[0]
            upper.legend(handles=handles, loc="upper right", fontsize=7)
        if shot is snapshots[-1]:
            probability.set_ylabel("D(x)")
    return figure

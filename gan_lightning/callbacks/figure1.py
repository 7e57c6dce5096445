"""The paper's Figure 1, of a GAN that makes single numbers."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from gan_lightning.data.images import normalise
from gan_lightning.gan import GAN
from gan_lightning.sampling import draw, show

BINS = 64


class Figure1(Callback):
    """Draw the data's density, the generator's and D's curve at several moments: ``figure1.png``.

    D is drawn beside the optimal one for that generator (Proposition 1), p_data / (p_data + p_g), where either density
    is above 0. Below each, as in the paper, lines go from equally spaced z to where G maps them. In TensorBoard as
    ``figures/moments``.

    Args:
        at: The steps to draw.
    """

    def __init__(self, *, at: Sequence[int]) -> None:
        self.at, self.every_n_steps = at, math.gcd(*at)
        self.moments: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        """Remember what was drawn over a resume."""
        return {"moments": self.moments}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        self.moments = state_dict["moments"]

    @rank_zero_only
    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look at the game when it is time."""
        if trainer.global_step in self.at:
            self.moments.append({"step": trainer.global_step} | look(pl_module))

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Draw all moments side by side."""
        data = torch.cat([normalise(part.cpu()) for part in trainer.datamodule.train.parts()]).flatten()
        figure = plot(self.moments, density(data))
        figure.savefig(Path(trainer.default_root_dir) / "figure1.png", dpi=100)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure("figures/moments", figure, trainer.global_step)


def density(x: torch.Tensor) -> list[float]:
    """Estimate the density of numbers (N,) in [-1, 1] in equal bins."""
    return (torch.histc(x.float().cpu(), BINS, -1, 1) / len(x) * BINS / 2).tolist()


@torch.no_grad()
def look(gan: GAN) -> dict[str, list[float]]:
    """Give the generator's ``density``, ``discriminator`` (D at the bins' middles), and G at equally spaced z."""
    x = middles().to(gan.device)
    z = torch.linspace(-(3**0.5), 3**0.5, 16, device=gan.device).unsqueeze(1)
    samples = torch.cat(list(draw(gan, 20_000, seed=0))).flatten()
    return {
        "density": density(samples),
        "discriminator": gan.discriminator(x.view(-1, 1, 1, 1)).sigmoid().flatten().tolist(),
        "z": z.flatten().tolist(),
        "g": show(gan, z).flatten().tolist(),
    }


def middles() -> torch.Tensor:
    """Give the middles of the bins, (BINS,)."""
    return (torch.arange(BINS) + 0.5) / BINS * 2 - 1


def plot(moments: Sequence[dict[str, Any]], data: list[float]) -> Any:
    """Draw the moments side by side."""
    from matplotlib.figure import Figure

    x = middles().tolist()
    figure = Figure(figsize=(3.4 * max(len(moments), 1), 4), layout="constrained")
    axes = figure.subplots(2, max(len(moments), 1), squeeze=False, sharex=True, height_ratios=[3, 1])
    for (upper, lower), moment in zip(axes.T, moments, strict=False):
        optimal = [p / (p + q) if p + q else math.nan for p, q in zip(data, moment["density"], strict=True)]
        upper.plot(x, data, "k:", label="data")
        upper.plot(x, moment["density"], "g-", label="generator")
        upper.set(title=f"step {moment['step']}", ylim=(0, 1.1 * max(*data, *moment["density"])))
        probability = upper.twinx()
        probability.plot(x, moment["discriminator"], "b--", label="D(x)")
        probability.plot(x, optimal, "b-", linewidth=0.5, label="optimal D(x)")
        probability.set(ylim=(0, 1.1), yticks=[0, 0.5, 1])
        for z, g in zip(moment["z"], moment["g"], strict=True):
            lower.annotate("", (g, 1), (z / 3**0.5, 0), arrowprops={"arrowstyle": "->", "linewidth": 0.6})
        lower.set(ylim=(0, 1), yticks=[0, 1], yticklabels=["z / √3", "x"], xlim=(-1, 1), xlabel="x")
        if moment is moments[0]:
            upper.set_ylabel("density")
            handles = upper.get_legend_handles_labels()[0] + probability.get_legend_handles_labels()[0]
            upper.legend(handles=handles, loc="upper right", fontsize=7)
        if moment is moments[-1]:
            probability.set_ylabel("D(x)")
    return figure

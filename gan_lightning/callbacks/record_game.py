"""The game of G and D on points of the plane, recorded: ``game.html``."""

import copy
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor
from torch.optim import Optimizer

from gan_lightning.callbacks.stop_on_nan import DivergenceError, StopOnNan
from gan_lightning.data.images import to_pixels
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.networks import evaluation_mode
from gan_lightning.pages import game
from gan_lightning.sampling import discriminator_map
from gan_lightning.simultaneous import SimultaneousGAN

log = logging.getLogger(__name__)

FIRST = 12  # iterations with a frame after every update
FRAMES = 10  # frames between two later iterations with a frame after every update
POINTS = 1000  # points of each kind, of which losses, modes and the share of good points are
SAMPLES, ARROWS, DATA = 128, 48, 300  # samples, samples with an arrow, and data points that are drawn
GRID, MAP = 17, 24  # lines of z's grid and cells of D's map, each way
PAGE = "game.html"
FAIR_SHARE = 0.25  # of its fair share of the samples, which a mode must have to count

Frame = dict[str, Any]  # of tensors and numbers, see Recorder.frame


class Features(Protocol):
    """See :class:`gan_lightning.metrics.points.PointFeatures`."""

    num_classes: int

    def classify(self, images: Tensor) -> Tensor: ...  # noqa: D102


class Recorder(Callback):
    """Record frames of a run: what G and D are after an update.

    There is a frame of the start and of the end, one every ``every_n_steps`` iterations, and one after every update, of
    D and of G, in the first ``FIRST`` iterations and in one of every ``FRAMES * every_n_steps`` later ones. All frames
    have the same noise and data points; nothing is drawn from torch's default generators.

    Args:
        every_n_steps: Iterations from one frame to the next.
        features: Assigns points to modes.

    Raises:
        ValueError: If ``every_n_steps`` is below 1.
    """

    def __init__(self, *, every_n_steps: int, features: Features) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps={every_n_steps}: must be at least 1")
        self.every_n_steps, self.features = every_n_steps, features
        self.frames: list[Frame] = []
        self.updates = 0  # of D in this iteration

    def state_dict(self) -> dict[str, Any]:
        """Return the frames so far, for a resumed run."""
        return {"frames": self.frames}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.frames = list(state_dict["frames"])

    def on_fit_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Choose the points and the noise of all frames, and a grid over the range of the noise."""
        self.real = next(iter(trainer.datamodule.train.batches(POINTS))).to(pl_module.fixed_latents)
        z = pl_module.prior(len(self.real), generator=torch.Generator().manual_seed(pl_module.seed))
        axis = torch.linspace(z.min(), z.max(), GRID)
        self.z, self.lattice = (noise.to(pl_module.fixed_latents) for noise in (z, torch.cartesian_prod(axis, axis)))

    def on_train_start(self, trainer: Trainer, pl_module: GAN) -> None:
        """Record the untrained networks."""
        if trainer.global_step == 0:
            self.record(pl_module, step=0, update=0)

    def on_train_batch_start(self, trainer: Trainer, pl_module: GAN, batch: Any, batch_idx: int) -> None:
        """Begin to count D's updates."""
        self.updates = 0

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: GAN, optimizer: Optimizer) -> None:
        """Record what D's last update has led to; Lightning has no hook after an update."""
        if self.updates and self.is_slow(trainer.global_step):
            self.record(pl_module, step=trainer.global_step + 1, update=self.updates)
        self.updates += 1

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Record what G's update has led to."""
        step = trainer.global_step
        if self.is_slow(step - 1) or step % self.every_n_steps == 0:
            self.record(pl_module, step=step, update=0)

    def on_train_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Record the trained networks."""
        if self.frames and self.frames[-1]["step"] < trainer.global_step:
            self.record(pl_module, step=trainer.global_step, update=0)

    def is_slow(self, steps: int) -> bool:
        """Return whether the iteration after this many others has a frame after every update."""
        return steps < FIRST or steps % (FRAMES * self.every_n_steps) == 0

    def record(self, gan: GAN, **when: int) -> None:
        """Add a frame, unless a value is not finite: then the run has diverged.

        Args:
            gan: The networks.
            when: ``step``, the iteration; ``update``: the number of D's update in it, 0 after that of G.
        """
        frame = self.frame(gan)
        if all(math.isfinite(value) for value in frame.values() if isinstance(value, float)):
            self.frames.append(when | frame)

    def frame(self, gan: GAN) -> Frame:
        """Return what is drawn of the current networks, of G itself and not its average.

        Returns:
            ``samples`` (SAMPLES, 2) and ``grid`` (GRID * GRID, 2), G of a regular grid of z: bytes, 0 for -1 and 255
            for 1; ``map``: D's values (MAP, MAP), 0 for ``low`` and 255 for ``high``; ``arrows`` (ARROWS, 2): minus the
            gradient of G's loss of each of the first samples, 127 for ``longest``, the largest of their coordinates;
            ``pull``: their mean length. Of ``POINTS`` points of each kind: ``loss_d``, without the penalty, and
            ``loss_g``; ``modes``, which have at least ``FAIR_SHARE`` of their fair share of good samples; ``leader``,
            which has most; ``good``, the share of good samples; ``spread``, the samples' deviation over the data's.
        """
        with evaluation_mode(gan.generator, gan.discriminator):
            with torch.no_grad():
                samples, grid = (gan.generator(z).float() for z in (self.z, self.lattice))
                real = gan.discriminator(self.real).float()
            with torch.enable_grad():
                x = samples.to(self.real).requires_grad_()
                fake = gan.discriminator(x).float()
                loss = gan.generator_loss(fake, real)
                (gradient,) = torch.autograd.grad(loss, x)
            arrows = -len(x) * gradient[:ARROWS].flatten(1).float()  # of each sample's own term of the mean
        values, label = discriminator_map(gan, MAP)
        low, high = (0.0, 1.0) if label == "D(x)" else (values.min().item(), values.max().item())
        longest = arrows.abs().max().item()
        classes = self.features.classify(samples.cpu())
        shares = classes[classes >= 0].bincount(minlength=self.features.num_classes) / len(classes)
        return {
            "samples": to_pixels(samples[:SAMPLES].flatten(1)).cpu(),
            "grid": to_pixels(grid.flatten(1)).cpu(),
            "map": values.sub(low).mul(255 / max(high - low, 1e-30)).round().to(torch.uint8).cpu(),
            "arrows": arrows.mul(127 / max(longest, 1e-30)).round().to(torch.int8).cpu(),
            "low": low,
            "high": high,
            "longest": longest,
            "pull": arrows.norm(dim=1).mean().item(),
            "loss_d": gan.loss.discriminator(real, fake).item(),
            "loss_g": loss.item(),
            "leader": int(shares.argmax()),
            "modes": int((shares >= FAIR_SHARE / len(shares)).sum()),
            "good": shares.sum().item(),
            "spread": deviation(samples) / deviation(self.real),
        }


class RecordGame(Recorder):
    """Record the run and, after it, the same one with other losses and penalties; write the page ``game.html``.

    A variant trains a copy of the untrained networks and optimizers by a trainer of its own, for as many steps, on the
    same minibatches and noise. One that diverges ends early. If the run is resumed, they begin anew.

    Args:
        every_n_steps: See :class:`Recorder`.
        features: See there.
        variants: By name, each a ``loss`` and a ``penalty``, null for none; null removes a variant. The run itself
            takes the place of the one with its loss and penalty, or is the first.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self, *, every_n_steps: int, features: Features, variants: Mapping[str, Mapping[str, Any] | None] | None
    ) -> None:
        super().__init__(every_n_steps=every_n_steps, features=features)
        self.variants = {name: variant for name, variant in (variants or {}).items() if variant}
        for name, variant in self.variants.items():
            if set(variant) != {"loss", "penalty"} or not variant["loss"]:
                raise ValueError(f"variants={name}: must have a loss, and a penalty or null")
            if not hasattr(variant["loss"], "generator") or not callable(variant["penalty"] or print):
                raise ValueError(f"variants={name}: must have classes, as in loss._target_=gan_lightning.losses.Hinge")

    def setup(self, trainer: Trainer, pl_module: GAN, stage: str) -> None:
        """Keep a copy of the untrained networks; a resumed run has not restored the trained ones yet.

        Raises:
            InputError: If the run cannot be recorded.
        """
        if trainer.world_size > 1:
            raise InputError(f"trainer.devices={trainer.world_size}: must be 1 with callbacks.record_game")
        z = pl_module.prior(2, generator=torch.Generator().manual_seed(0))
        with evaluation_mode(pl_module.generator), torch.no_grad():
            shape = pl_module.num_classes or list(pl_module.generator(z).shape[1:])
        if z.shape[1] != 2 or shape != [2, 1, 1]:
            needs = "points of the plane (data=ring), model.latent_dim=2 and model.num_classes=0"
            raise InputError(f"callbacks.record_game: needs {needs}")
        self.untrained = copy.deepcopy(pl_module)

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Train and record the variants, and write the page."""
        own, variants = {"loss": pl_module.loss, "penalty": pl_module.penalty}, dict(self.variants)
        name = next((name for name, variant in variants.items() if kinds(variant) == kinds(own)), "")
        variants = variants | {name: own} if name else {name: own} | variants
        recordings = []
        for i, (each, variant) in enumerate(variants.items()):
            frames, ended = (self.frames, "") if each == name else self.train_variant(trainer, variant)
            if not frames:  # of a run that was resumed at its end, without frames in its checkpoint
                continue
            simultaneous = isinstance(pl_module, SimultaneousGAN)
            recordings.append(
                game.Recording(**variant, k=pl_module.k, simultaneous=simultaneous, frames=frames, ended=ended)
            )
            caption = recordings[-1].caption(self.features.num_classes)
            log.info("Recorded %d of %d, %s: %s", i + 1, len(variants), recordings[-1].name, caption)
        if not recordings:
            return
        page = game.render(
            recordings,
            to_pixels(self.real[:DATA].flatten(1)).cpu(),
            modes=self.features.num_classes,
            every=self.every_n_steps,
            often=FRAMES * self.every_n_steps,
            first=FIRST,
            points=f"{len(self.real):,}",
        )
        (path := Path(trainer.default_root_dir) / PAGE).write_text(page, encoding="utf-8")
        log.info("Wrote %s; open it in a browser", path)

    def train_variant(self, trainer: Trainer, variant: Mapping[str, Any]) -> tuple[list[Frame], str]:
        """Train a copy of the untrained networks; return its frames, and why it diverged if it did."""
        gan, data, device = copy.deepcopy(self.untrained), copy.copy(trainer.datamodule), trainer.strategy.root_device
        gan.loss, gan.penalty = variant["loss"], variant["penalty"]
        data.resumed_at = 0
        vars(gan).pop("step", None)  # of cuda_graphs=true, which is for the run's own penalty
        recorder = Recorder(every_n_steps=self.every_n_steps, features=self.features)
        own_trainer = Trainer(
            accelerator=device.type,
            devices=1 if device.index is None else [device.index],
            precision=trainer.precision,
            max_steps=trainer.global_step,
            callbacks=[recorder, StopOnNan(action="raise")],
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=trainer.default_root_dir,
        )
        with isolate_rng():
            try:
                own_trainer.fit(gan, data)
            except DivergenceError as error:
                return recorder.frames, str(error).partition(";")[0]
        return recorder.frames, ""


def kinds(variant: Mapping[str, Any]) -> tuple[type, type]:
    """Return the classes of a variant's loss and penalty."""
    return type(variant["loss"]), type(variant["penalty"])


def deviation(points: Tensor) -> float:
    """Return the root mean square of the distances of points (N, 2, 1, 1) from their mean."""
    points = points.flatten(1).float()
    return (points - points.mean(0)).square().sum(1).mean().sqrt().item()

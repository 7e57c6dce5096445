"""What goes wrong in the game, in one sentence each."""

import logging
import math
from collections.abc import Iterator
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor

from gan_lightning import sampling
from gan_lightning.callbacks.discriminator_outputs import logits
from gan_lightning.callbacks.norms import GradientNorms
from gan_lightning.data.images import InMemoryImages, normalize
from gan_lightning.gan import GAN, Outputs
from gan_lightning.visualize import are_points

log = logging.getLogger(__name__)

IN_A_ROW = 3  # logged steps that a symptom lasts before it is reported, and is absent before it is reported again
NUM_IMAGES = 64  # generated, training and validation images that are compared
NUM_POINTS = 500  # of the plane, which cost less
FEWEST = 20  # training and validation images for a comparison of D's means
FIRST_STEP = 100  # before it, a generator has not learned enough for its images to be examined

# Thresholds, with what was measured at logged steps of 18 experiments of conf/experiment in their first 150 to 1,200
# steps, and of runs that were made to fail (docs/diagnoses.md has these).
WON = 0.02  # D's loss, relative to ln 2 and the like: at least 0.23, goodfellow2014 once 0.011; 0.00001 to 0.01
ALIKE = 0.01  # distance between generated images, relative to real ones: at least 0.07, goodfellow2014 0.03; 0
FALLEN = 0.2  # that distance, relative to its largest value so far: at least 0.45; 0.03
COVERED, NEAR = 0.5, 0.15  # share of real points with a generated one within 0.15 standard deviations: 0.94 to 1; 0.13
VANISHED = 1e-6  # norm of a gradient: at least 1e-4, in goodfellow2014's first step 3e-5; 0
EXPLODED = 1e3  # at most 33; 900 to 2e9
GAP = 0.9  # standard deviations of D's logits; 64 images make it uncertain by 0.18: at most 0.66; 1 to 1.7

SENTENCES = {
    "won": (
        f"D wins outright, and G learns nothing: D's loss is below {WON:.0%} of an undecided D's",
        "a penalty (penalty=r1), loss=non_saturating or a lower optimizer.discriminator.lr",
    ),
    "collapse": (
        "mode collapse: generated images are nearly the same",
        "a penalty (penalty=r1) or a lower optimizer.generator.lr",
    ),
    "missing modes": (
        f"mode collapse: {1 - COVERED:.0%} or more of the real points have no generated ones near them",
        "a penalty (penalty=r1) or a lower optimizer.lr",
    ),
    "learned by heart": (
        f"D learns the training images by heart: its logits for them are {GAP} standard deviations above those for "
        "validation images, or more",
        "more data, a penalty (penalty=r1), a larger penalty.gamma or fewer steps",
    ),
}
for network, letter in (("generator", "G"), ("discriminator", "D")):
    SENTENCES[f"vanishing {network}"] = (
        f"the gradient of {letter} has vanished: its norm is below {VANISHED:.0e}",
        "a lower optimizer.lr, loss=non_saturating or a penalty (penalty=r1)",
    )
    SENTENCES[f"exploding {network}"] = (
        f"the gradient of {letter} explodes: its norm is above {EXPLODED:,.0f}",
        "a lower optimizer.lr or trainer.gradient_clip_val=1",
    )


class Diagnoses(GradientNorms):
    """Warn when the game goes wrong, in one sentence: what, since which step, and what to try.

    The symptoms are a D that wins outright, generated images that are nearly the same, gradients that vanish or
    explode, and a D that learns the training images by heart; see ``docs/diagnoses.md``. They are measured every
    ``trainer.log_every_n_steps`` steps, on a few dozen images; steps between cost nothing, and torch's random state
    stays as it is. A symptom is reported once it has lasted for ``IN_A_ROW`` logged steps, an explosion at once, and
    again only after it has been absent for ``IN_A_ROW`` logged steps.
    """

    def __init__(self) -> None:
        self.symptoms: dict[str, dict[str, int]] = {}  # by name: first step, logged steps with it, and since without it
        self.most_varied = 0.0  # the largest value of variety() so far
        self.real: dict[str, InMemoryImages] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the present symptoms, which a resumed run does not report again, and the most variety so far."""
        return {"symptoms": self.symptoms, "most_varied": self.most_varied}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.symptoms, self.most_varied = state_dict["symptoms"], state_dict["most_varied"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: GAN, outputs: Outputs, batch: Any, batch_idx: int
    ) -> None:
        """Measure, and report what has lasted."""
        if not self.measures or not trainer.is_global_zero:
            return
        if not self.real:
            data = trainer.datamodule
            self.real = {name: first_images(images) for name, images in (("train", data.train), ("val", data.val))}
        for name, is_present in self.examine(pl_module, outputs, trainer.global_step):
            self.note(trainer.global_step, name, is_present)

    def examine(self, gan: GAN, outputs: Outputs, step: int) -> Iterator[tuple[str, bool]]:
        """Yield the names of the symptoms that can be measured at this step, and whether they are present."""
        yield "won", relative_loss(gan, outputs) < WON
        for network, gradient in self.gradient_norms.items():
            yield f"vanishing {network}", float(gradient) < VANISHED
            yield f"exploding {network}", EXPLODED < float(gradient) < math.inf  # nan and infinity: StopOnNan
        if step >= FIRST_STEP:
            real = normalize(self.real["train"].images).to(gan.fixed_latents)
            if are_points(real):
                yield "missing modes", covered(gan, real) < COVERED
            else:
                now = variety(gan, real)
                self.most_varied = max(self.most_varied, now)
                yield "collapse", now < max(ALIKE, FALLEN * self.most_varied)
            if min(len(images) for images in self.real.values()) >= FEWEST:
                yield "learned by heart", gap(gan, self.real["train"], self.real["val"]) > GAP

    def note(self, step: int, name: str, is_present: bool) -> None:
        """Count a symptom's logged steps, and report it when it has lasted."""
        symptom = self.symptoms.setdefault(name, {"since": step, "present": 0, "absent": 0})
        enough = 1 if name.startswith("exploding") else IN_A_ROW
        if is_present:
            symptom["present"], symptom["absent"] = symptom["present"] + 1, 0
            if symptom["present"] == enough:
                what, advice = SENTENCES[name]
                log.warning("step %d: %s, since step %d; try %s", step, what, symptom["since"], advice)
        else:
            symptom["absent"] += 1
            if symptom["present"] < enough or symptom["absent"] == IN_A_ROW:
                del self.symptoms[name]


def first_images(images: Any) -> InMemoryImages:
    """Return the first images of a set, or points, in memory."""
    number = NUM_POINTS if are_points(images[torch.arange(1)][0]) else NUM_IMAGES
    return InMemoryImages(*images[torch.arange(min(number, len(images)))])


def relative_loss(gan: GAN, outputs: Outputs) -> float:
    """Return D's loss divided by that of a D that returns 0 for each image; nan if that is 0, as for Wasserstein."""
    undecided = torch.zeros_like(outputs["logits/real"])
    loss = float(gan.loss.discriminator(undecided, undecided))
    return float(outputs["loss/discriminator"]) / loss if loss else math.nan


def variety(gan: GAN, real: Tensor) -> float:
    """Return the mean distance from a generated image to the nearest other one, divided by that of real images."""
    count = min(len(real), len(gan.fixed_latents))
    chosen = torch.arange(count) * len(gan.fixed_latents) // count  # of all classes
    labels = None if gan.fixed_labels is None else gan.fixed_labels[chosen]
    images = sampling.generate(gan, gan.fixed_latents[chosen], labels)
    return float(nearest_distance(images) / nearest_distance(real[:count]))


def nearest_distance(images: Tensor) -> Tensor:
    """Return the mean distance from an image to the nearest other one, of images (N, C, H, W)."""
    distances = torch.cdist(images.float().flatten(1), images.float().flatten(1))
    return distances.fill_diagonal_(math.inf).amin(1).mean()


def covered(gan: GAN, real: Tensor) -> float:
    """Return the share of real points (M, 2, 1, 1) with a generated one near: within ``NEAR`` of their deviation."""
    points = torch.cat(list(sampling.sample(gan, NUM_POINTS, seed=gan.seed)))
    radius = NEAR * float(real.flatten(1).var(0).sum().sqrt())
    return float((torch.cdist(real.flatten(1), points.flatten(1).to(real)).amin(1) < radius).float().mean())


def gap(gan: GAN, train: InMemoryImages, val: InMemoryImages) -> float:
    """Return by how many standard deviations D's logits of training images are above those of validation images."""
    first, second = logits(gan, train), logits(gan, val)
    return float((first.mean() - second.mean()) / ((first.var() + second.var()) / 2).sqrt().clamp(min=1e-12))

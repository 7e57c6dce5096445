"""A page that replays recorded runs on points of the plane: Algorithm 1, one update after the other."""

import base64
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

import torch
from torch import Tensor

HERE = Path(__file__).parent
LAYERS = ("samples", "grid", "map", "arrows")  # of a frame, bytes
NUMBERS = ("low", "high", "longest", "pull", "loss_d", "loss_g", "good", "spread")  # of a frame
GUESSING = 0.02  # from log 4, at which D's loss says that it guesses
SUM = "<sup>1</sup>⁄<sub>m</sub> Σ"
ASCEND, DESCEND = f"∇<sub>θ<sub>D</sub></sub> {SUM} ", f"∇<sub>θ<sub>G</sub></sub> {SUM} "

# By class: name; what D ascends, and what G descends, of each x and z
LOSSES = {
    "Minimax": ("Minimax", "[log D(x) + log(1 − D(G(z)))]", "log(1 − D(G(z)))"),
    "NonSaturating": ("Non-saturating", "[log D(x) + log(1 − D(G(z)))]", "−log D(G(z))"),
    "LeastSquares": ("Least squares", "−½ [(D(x) − 1)² + D(G(z))²]", "½ (D(G(z)) − 1)²"),
    "Hinge": ("Hinge", "[min(0, D(x) − 1) + min(0, −D(G(z)) − 1)]", "−D(G(z))"),
    "Wasserstein": ("Wasserstein", "[D(x) − D(G(z))]", "−D(G(z))"),
    "Relativistic": ("Relativistic", "log σ(D(x) − D(G(z)))", "−log σ(D(G(z)) − D(x))"),
    "RelativisticAverage": (
        "Relativistic average",
        "[log σ(D(x) − E D(G(z))) + log(1 − σ(D(G(z)) − E D(x)))]",
        "−[log σ(D(G(z)) − E D(x)) + log(1 − σ(D(x) − E D(G(z))))]",
    ),
}
# By class: name; what is subtracted from D's objective
PENALTIES = {
    "R1": ("R1", "<sup>γ</sup>⁄<sub>2</sub> ‖∇D(x)‖²"),
    "R2": ("R2", "<sup>γ</sup>⁄<sub>2</sub> ‖∇D(G(z))‖²"),
    "R1R2": ("R1 and R2", "<sup>γ</sup>⁄<sub>2</sub> (‖∇D(x)‖² + ‖∇D(G(z))‖²)"),
    "ZeroCentered": ("zero-centered", "γ ‖∇D(x̃)‖²"),
    "WGANGP": ("WGAN-GP", "γ (‖∇D(x̃)‖ − 1)²"),
    "DRAGAN": ("DRAGAN", "γ (‖∇D(x′)‖ − 1)²"),
}


@dataclass(frozen=True)
class Recording:
    """A recorded run.

    Attributes:
        loss: See :mod:`gan_lightning.losses`.
        penalty: See :mod:`gan_lightning.penalties`; None: there was none.
        k: Updates of D per iteration.
        simultaneous: Whether both networks were updated by gradients at the same weights.
        frames: See :class:`gan_lightning.callbacks.record_game.Recorder`; at least one.
        ended: Why the run ended early, or nothing.
    """

    loss: Any
    penalty: Any
    k: int
    simultaneous: bool
    frames: Sequence[dict[str, Any]]
    ended: str = ""

    @property
    def name(self) -> str:
        """The names of the loss and of the penalty."""
        loss, penalty = type(self.loss).__name__, type(self.penalty).__name__
        name = LOSSES[loss][0] if loss in LOSSES else loss
        return f"{name}, {PENALTIES[penalty][0] if penalty in PENALTIES else penalty}" if self.penalty else name

    def objectives(self) -> tuple[str, str]:
        """Return what D ascends and what G descends, as HTML."""
        loss, penalty = type(self.loss).__name__, type(self.penalty).__name__
        if loss in LOSSES and not getattr(self.loss, "label_smoothing", 0):
            d, g = (f"{start}{formula}" for start, formula in zip((ASCEND, DESCEND), LOSSES[loss][1:], strict=True))
        else:
            d, g = (f"∇<sub>θ<sub>{n}</sub></sub> {sign}{escape(loss)}" for n, sign in (("D", "−"), ("G", "")))
        if penalty in PENALTIES:
            d += f" − {SUM} {PENALTIES[penalty][1]}"
        elif self.penalty:
            d += f", with {escape(penalty)}"
        return d, g

    def notes(self) -> str:
        """Return what the formulas leave open, as HTML."""
        notes = []
        if not self.gives_probabilities:
            notes.append("D(·) is D's output without a sigmoid; only differences between its values matter.")
        if (gamma := getattr(self.penalty, "gamma", None)) is not None:
            of = " of D's output without the sigmoid" if self.gives_probabilities else ""
            notes.append(f"∇D is the gradient{of} with respect to the point; γ = {gamma:g}.")
        if type(self.penalty).__name__ in ("ZeroCentered", "WGANGP"):
            notes.append("x̃ is a random point between x and G(z).")
        if self.simultaneous:
            notes.append("In this run, both gradients were taken before either update.")
        else:
            notes.append(
                "In line 8, this program takes the noise of the last update of D again, as G has not moved since."
            )
        return " ".join(notes)

    @property
    def gives_probabilities(self) -> bool:
        """Whether the sigmoid of D's logit is a probability."""
        return getattr(self.loss, "gives_probabilities", False)

    def caption(self, modes: int) -> str:
        """Return a sentence on what is to be seen, of nothing but the frames' numbers."""
        frames = [frame for frame in self.frames if not frame["update"]]
        last = frames[-1]
        half = [frame for frame in frames if 2 * frame["step"] >= last["step"]]
        good = f"{100 * last['good']:.0f} % of the samples are good"
        if last["modes"] == modes:
            since = next((frame["step"] for frame in reversed(frames) if frame["modes"] < modes), -1)
            since = next(frame["step"] for frame in frames if frame["step"] > since)
            text = f"G covers all {modes} modes, from iteration {since} to the end, where {good}"
            if self.gives_probabilities and abs(last["loss_d"] - math.log(4)) < GUESSING:
                text += f"; D's loss is {last['loss_d']:.2f}, and that of guessing is log 4 = 1.39"
        elif 2 * max(covered := [frame["modes"] for frame in half]) <= modes:
            leaders = [frame["leader"] for frame in half if frame["modes"]]
            changes = sum(before != after for before, after in pairwise(leaders))
            number = " to ".join(map(str, dict.fromkeys([min(covered), max(covered)])))
            text = f"In the second half of the run, G covers {number} of {modes} modes at a time"
            text += f", and the mode with the most samples changes {changes} times" if changes > 1 else ""
            text += f"; at the end, {good}"
        else:
            text = f"At the end, G covers {last['modes']} of {modes} modes, and {good}"
        return f"{text}. The run ended early: {self.ended}." if self.ended else f"{text}."

    def pack(self, modes: int) -> dict[str, Any]:
        """Return what the page's script reads."""
        columns = {key: [frame[key] for frame in self.frames] for key in ("step", "update", "modes")}
        columns |= {key: [float(f"{frame[key]:.4g}") for frame in self.frames] for key in NUMBERS}
        layers = [torch.stack([frame[name].flatten().view(torch.uint8) for frame in self.frames]) for name in LAYERS]
        # differences between frames are mostly small, which deflates well
        steps = [layer.diff(dim=0, prepend=torch.zeros_like(layer[:1])).numpy().tobytes() for layer in layers]
        objective_d, objective_g = self.objectives()
        return columns | {
            "name": self.name,
            "caption": self.caption(modes),
            "objective_d": objective_d,
            "objective_g": objective_g,
            "notes": self.notes(),
            "probability": self.gives_probabilities,
            "k": self.k,
            "packed": encode(zlib.compress(b"".join(steps), 9)),
        }


def render(recordings: Sequence[Recording], data: Tensor, *, modes: int, every: int, often: int, **texts: Any) -> str:
    """Return the page.

    Args:
        recordings: The runs; the first one is shown first.
        data: Data points (N, 2), bytes.
        modes: Number of modes of the data.
        every: Iterations from one frame to the next.
        often: Of so many iterations, one has a frame after every update.
        texts: ``first``, the number of first iterations that have, too; ``points``, of which values are.
    """
    content = {
        "modes": modes,
        "sizes": {name: recordings[0].frames[0][name].numel() for name in LAYERS},
        "data": encode(data.contiguous().numpy().tobytes()),
        "recordings": [each.pack(modes) for each in recordings],
    }
    return Template((HERE / "game.html").read_text(encoding="utf-8")).substitute(
        data=json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        style=(HERE / "style.css").read_text(encoding="utf-8"),
        script=(HERE / "game.js").read_text(encoding="utf-8"),
        every="iteration" if every == 1 else f"{every} iterations",
        often=often,
        **texts,
    )


def encode(content: bytes) -> str:
    """Return bytes in base64."""
    return base64.b64encode(content).decode()

"""A trained GAN as one HTML page: samples, paths and planes in z, D as an opponent, and a drawing pad that D scores."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_lightning.data.images import InMemoryImages, StreamedImages, normalize, to_pixels
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.pages.graph import Graph
from gan_lightning.pages.trace import trace
from gan_lightning.priors import Normal, Signs, Uniform
from gan_lightning.sampling import generate, repeat_labels
from gan_lightning.visualize import nearest_images

SOURCES = Path(__file__).parent
GRID = 24  # samples that the page shows at first
REAL = 60  # real images of "You are D"
DIRECTIONS = 6
CHECKED = 64  # images whose error is measured
CALIBRATION = 500  # real and generated images each, of which the median of D's logits is taken
PAD_PIXELS = 64  # of a drawing's side, at most


@dataclass
class Data:
    """The images that a page shows beside generated ones."""

    train: InMemoryImages | StreamedImages
    test: InMemoryImages | StreamedImages

    def held_out(self, number: int) -> tuple[Tensor, Tensor]:
        """Return test images (number, C, H, W), uint8, and labels, from the whole of the test set."""
        return self.test[torch.linspace(0, len(self.test) - 1, number).long()]


def write(
    gan: GAN, out: Path, *, subject: str, weights: str, discriminator: bool = True, data: Data | None = None
) -> str:
    """Write the page; return what it says about its error.

    Args:
        gan: The GAN, in evaluation mode, on the CPU.
        out: The file.
        subject: What the GAN was trained on, and for how long.
        weights: "fp16" or "int8"; see :func:`gan_lightning.pages.graph.encode`.
        discriminator: Whether D is part of the page.
        data: The images of the run; None: the parts that show them are left out.

    Raises:
        InputError: If the page cannot run one of the networks, draw from the prior, or show what it generates.
    """
    z, labels = noise(gan, CHECKED, seed=0), repeat_labels(gan, CHECKED)
    wanted = generate(gan, z, labels)
    shape = wanted.shape[1:]
    if shape[1:].numel() == 1:
        raise InputError("out: a page shows images, and the model generates points; see experiment=game2d for a page")
    if shape[0] not in (1, 3):
        raise InputError(f"out: a page shows images of 1 or 3 channels, and the model's have {shape[0]}")
    blob = bytearray()
    content: dict[str, Any] = {
        "shape": list(shape),
        "latent": z.shape[1],
        "prior": {"name": type(gan.prior).__name__, "signs": getattr(gan.prior, "signs", 0)},
        "classes": gan.num_classes,
        "grid": GRID,
        "directions": append(blob, directions(gan)),
    }
    graph = trace(gan, arguments(z[:1], labels))
    content["generator"] = graph.pack(weights, blob)
    exact, error = (largest_error(g, wanted, z, labels) for g in (graph, graph.rounded(weights)))
    if not exact < 1:
        raise InputError(
            f"the page cannot run the generator: pixels differ from PyTorch's by {exact:.3g}/255; use .onnx"
        )
    if data:
        content |= real_images(gan, data, blob)
    if discriminator:
        content["verdict"] = verdict(gan, data)
    if content.get("verdict"):
        graph = trace(gan.discriminator, arguments(wanted[:1], labels))
        check_logits(gan, graph, wanted, labels)
        content["discriminator"] = graph.pack(weights, blob)
    content["error"] = f"{error:.2g}/255"
    page = Template((SOURCES / "model_page.html").read_text(encoding="utf-8")).substitute(
        style=(SOURCES / "style.css").read_text(encoding="utf-8"),
        script=(SOURCES / "network.js").read_text(encoding="utf-8")
        + (SOURCES / "model_page.js").read_text(encoding="utf-8"),
        subject=escape(subject),
        content=json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        weights=base64.b64encode(blob).decode(),
    )
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"out={out}: {error.strerror}") from error
    return f"largest difference from PyTorch in {CHECKED} images: {content['error']}"


def arguments(batch: Tensor, labels: Tensor | None) -> tuple[Tensor, ...]:
    """Return the inputs of a network for a batch of one."""
    return (batch,) if labels is None else (batch, labels[:1])


def append(blob: bytearray, array: Tensor) -> dict[str, int]:
    """Append an array of bytes or floats to the page's binary data; return its place and its number of rows."""
    blob.extend(bytes(-len(blob) % 4))
    place = {"data": len(blob), "rows": len(array)}
    blob.extend(array.contiguous().numpy().tobytes())
    return place


def largest_error(graph: Graph, wanted: Tensor, z: Tensor, labels: Tensor | None) -> float:
    """Return the largest difference of a pixel between the page's images and PyTorch's, in units of 1/255."""
    return float((one_by_one(graph, z, labels) - wanted).abs().max()) * 127.5


@torch.no_grad()
def check_logits(gan: GAN, graph: Graph, images: Tensor, labels: Tensor | None) -> None:
    """Raise InputError if the page's logits are not PyTorch's."""
    wanted, found = gan.discriminator(images, labels), one_by_one(graph, images, labels)
    if not torch.allclose(found, wanted, rtol=1e-2, atol=1e-2 * float(wanted.abs().max())):
        raise InputError(
            "the page cannot run the discriminator: its logits differ from PyTorch's; use discriminator=false"
        )


def one_by_one(graph: Graph, inputs: Tensor, labels: Tensor | None) -> Tensor:
    """Return the outputs of a graph for inputs (N, ...), and labels (N,) if there are any, one after another."""
    rows = labels.split(1) if labels is not None else [None] * len(inputs)
    return torch.cat([graph(*arguments(row, label)) for row, label in zip(inputs.split(1), rows, strict=True)])


def noise(gan: GAN, number: int, *, seed: int) -> Tensor:
    """Return the noise (number, latent_dim) that a page draws from the prior for a seed.

    Raises:
        InputError: If the prior is none of :mod:`gan_lightning.priors`.
    """
    kind = type(gan.prior)
    if kind not in (Normal, Uniform, Signs):
        raise InputError(f"model.prior: a page draws from Normal, Uniform or Signs, not {kind.__name__}; use .onnx")
    dim = gan.fixed_latents.shape[1]
    i = np.arange(number * dim)
    if kind is Uniform:
        drawn = (2 * uniform(seed, i) - 1) * 3**0.5
    else:  # Box and Muller
        even = i - i % 2
        radius, angle = np.sqrt(-2 * np.log(uniform(seed, even))), 2 * np.pi * uniform(seed, even + 1)
        drawn = radius * np.where(i % 2, np.sin(angle), np.cos(angle))
    z = torch.from_numpy(drawn.reshape(number, dim)).float()
    if isinstance(gan.prior, Signs):
        z[:, : gan.prior.signs] = torch.where(z[:, : gan.prior.signs] < 0, -1.0, 1.0)
    return z


def uniform(seed: int, i: np.ndarray) -> np.ndarray:
    """Return the i-th uniform numbers in (0, 1) of a seed: MurmurHash3's final mixing of a counter."""

    def mix(h: np.ndarray) -> np.ndarray:
        h = (h ^ h >> 16) * np.uint32(0x85EBCA6B)
        h = (h ^ h >> 13) * np.uint32(0xC2B2AE35)
        return h ^ h >> 16

    start = mix(np.array([seed + 1], dtype=np.uint32))
    return (mix(start + i.astype(np.uint32) * np.uint32(0x9E3779B9)) + 0.5) / 2**32


def directions(gan: GAN, number: int = DIRECTIONS, batches: int = 16, size: int = 64) -> Tensor:
    """Return orthonormal directions in z (number, latent_dim) along which G's images change most.

    They are the principal right singular vectors of G's Jacobian J, on average over z: the eigenvectors of E[JᵀJ],
    which is E[ggᵀ] for gradients g = Jᵀv of the image's product with white noise v.
    """
    random = torch.Generator().manual_seed(0)
    gradients: list[Tensor] = []
    for _ in range(batches):
        z = gan.prior(size, generator=random).requires_grad_()
        images = gan(z, repeat_labels(gan, size))
        product = (images * torch.randn(images.shape, generator=random)).sum()
        gradients.append(*torch.autograd.grad(product, z))
    found = torch.linalg.svd(torch.cat(gradients), full_matrices=False).Vh[:number]
    return found * found.gather(1, found.abs().argmax(1, keepdim=True)).sign()  # of a fixed sign


def real_images(gan: GAN, data: Data, blob: bytearray) -> dict[str, Any]:
    """Return the page's test images, and the nearest training images of its first samples."""
    images, labels = data.held_out(min(REAL, len(data.test)))
    samples = to_pixels(generate(gan, noise(gan, GRID, seed=0), repeat_labels(gan, GRID)))
    return {
        "real": append(blob, images) | {"labels": labels.tolist()},
        "neighbors": append(blob, nearest_images(samples, data.train.batches())),
        "background": 1 if images.float().median() > 127 else -1,
    }


@torch.inference_mode()
def verdict(gan: GAN, data: Data | None) -> dict[str, Any] | None:
    """Return how D's logit is read: a probability, or above a threshold; None if there is no data to find one.

    Returns:
        ``probability``, ``threshold``, and the range of logits ``low`` to ``high`` that a gauge shows.
    """
    if getattr(gan.loss, "gives_probabilities", False):
        return {"probability": True, "threshold": 0.0, "low": 0.0, "high": 0.0, "number": 0}
    if data is None:
        return None
    number = min(CALIBRATION, len(data.test))
    pixels, labels = data.held_out(number)
    given = repeat_labels(gan, number)
    fake = generate(gan, noise(gan, number, seed=1), given)
    pairs: Sequence[Any] = ((normalize(pixels), labels), (fake, given))
    logits = torch.cat([gan.discriminator(x, y if gan.num_classes else None).flatten() for x, y in pairs])
    low, middle, high = logits.float().quantile(torch.tensor([0.02, 0.5, 0.98])).tolist()
    return {"probability": False, "threshold": middle, "low": low, "high": max(high, low + 1e-6), "number": number}

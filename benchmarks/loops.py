"""The article's GAN trained four ways, for comparison: as a textbook does, by hand, by ``Trainer.fit``, and not at all.

All on the GPU if there is one. The loop by hand does what the package does, without any framework; the textbook's is a
script as tutorials have it; the limit is the time of the step's matrix products alone.
"""

import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from itertools import count, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Callback, Trainer
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, softplus
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, Normalize, ToTensor

from benchmarks.machine import DEVICE, Run, seconds, synchronise
from gan_lightning import config
from gan_lightning.cuda_graphs import graph_steps
from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.gan import GAN
from gan_lightning.networks.linear import Linear
from gan_lightning.optimizers import Adam
from gan_lightning.overhead import compile_networks, steps_per_batch
from gan_lightning.train import BY_THE_GAN, make_callbacks, make_logger

Product = tuple[Tensor, Tensor]
ADAM = {"lr": 2e-4, "betas": (0.5, 0.999)}


def build(*overrides: str) -> tuple[GAN, ImageDataModule]:
    """Build the article's GAN, on the device, and its data, set up."""
    gan, data = build_from(config.compose("train", ["experiment=article", *overrides]))
    data.prepare_data()
    data.setup()
    return gan.to(DEVICE), data


def build_from(composed: DictConfig) -> tuple[GAN, ImageDataModule]:
    """Build what a config describes."""
    gan: GAN = instantiate(composed.gan, _convert_="all")
    data: ImageDataModule = instantiate(composed.data, minibatches_per_step=gan.minibatches_per_step, _convert_="all")
    return gan, data


def by_torch(gan: GAN) -> GAN:
    """Have torch compute the linear layers."""
    for module in gan.modules():
        if isinstance(module, Linear):
            module.__class__ = nn.Linear  # type: ignore[assignment]
    return gan


def autocast(precision: str) -> AbstractContextManager[None]:
    """Compute in bf16 where that is safe, if the precision is ``bf16-mixed``."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16-mixed", cache_enabled=False)


def textbook_batches(batch_size: int) -> DataLoader:
    """torchvision's MNIST with ToTensor and Normalize, through a DataLoader."""
    images = MNIST(config.compose("train").data.root, transform=Compose([ToTensor(), Normalize(0.5, 0.5)]))
    return DataLoader(images, batch_size, shuffle=True, drop_last=True)


def textbook(batch_size: int) -> Run:
    """Train as the usual script of one file: images through PIL, BCELoss on a sigmoid, plain Adam, losses printed."""
    gan = by_torch(build()[0])
    generator, discriminator = gan.generator.train(), nn.Sequential(gan.discriminator.train(), nn.Sigmoid())
    generator_optimizer = torch.optim.Adam(generator.parameters(), **ADAM)  # type: ignore[arg-type]
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), **ADAM)  # type: ignore[arg-type]
    ones, zeros = torch.ones(batch_size, 1, device=DEVICE), torch.zeros(batch_size, 1, device=DEVICE)
    loader = textbook_batches(batch_size)
    batches = (images for _ in count() for images, _ in loader)

    def run(n: int) -> None:
        for images in islice(batches, n):
            real = images.to(DEVICE)
            generator_optimizer.zero_grad()
            fake = generator(torch.randn(batch_size, 100, device=DEVICE))
            generator_loss = binary_cross_entropy(discriminator(fake), ones)
            generator_loss.backward()
            generator_optimizer.step()
            discriminator_optimizer.zero_grad()
            real_loss = binary_cross_entropy(discriminator(real), ones)
            fake_loss = binary_cross_entropy(discriminator(fake.detach()), zeros)
            discriminator_loss = (real_loss + fake_loss) / 2
            discriminator_loss.backward()
            discriminator_optimizer.step()
            f"{discriminator_loss.item()} {generator_loss.item()}"  # a script prints them

    return run


def by_hand(
    batch_size: int,
    precision: str = "32-true",
    *,
    fused: bool = True,
    gathered: bool = False,
    halved: bool = True,
    shared: bool = True,
    joint: bool = True,
    frozen: bool = True,
    compiled: bool = False,
    captured: bool = False,
) -> Run:
    """Train by the package's mathematics without any framework, and log nothing.

    Args:
        batch_size: Real images in a minibatch.
        precision: ``32-true`` or ``bf16-mixed``.
        fused: Adam in one kernel.
        gathered: Its tensors once.
        halved: Each thread reads one half of the weights.
        shared: One pass through G serves both players.
        joint: D sees real and generated images in one pass.
        frozen: No gradients for D's weights in the generator's half.
        compiled: Both networks through ``torch.compile``.
        captured: The whole step as a CUDA graph.
    """
    gan, data = build()
    generator, discriminator = (gan if halved else by_torch(gan)).generator.train(), gan.discriminator.train()
    generator_optimizer, discriminator_optimizer = (
        (Adam if gathered else torch.optim.Adam)(network.parameters(), fused=fused, capturable=captured, **ADAM)  # type: ignore[arg-type]
        for network in (generator, discriminator)
    )
    g, d = (torch.compile(generator), torch.compile(discriminator)) if compiled else (generator, discriminator)
    images, batches = data.train.images.to(DEVICE), order(len(data.train), batch_size)  # type: ignore[union-attr]
    index = next(batches).to(DEVICE)

    def step() -> None:
        real = images[index].float().div_(127.5).sub_(1)
        with autocast(precision):
            fake = g(torch.randn(batch_size, 100, device=DEVICE))
            if joint:
                real_logits, fake_logits = d(torch.cat([real, fake.detach()])).chunk(2)
            else:
                real_logits, fake_logits = d(real), d(fake.detach())
            loss = softplus(-real_logits).mean() + softplus(fake_logits).mean()
        loss.backward()
        discriminator_optimizer.step()
        discriminator_optimizer.zero_grad()
        discriminator.requires_grad_(not frozen)
        with autocast(precision):
            loss = -softplus(d(fake if shared else g(torch.randn(batch_size, 100, device=DEVICE)))).mean()
        loss.backward()
        discriminator.requires_grad_(True)
        generator_optimizer.step()
        generator_optimizer.zero_grad()
        discriminator_optimizer.zero_grad()

    if captured:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(5):
                step()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            step()
        step = graph.replay

    def run(n: int) -> None:
        for _ in range(n):
            index.copy_(next(batches), non_blocking=True)
            step()

    run(5)  # warm up, compile
    return run


def order(size: int, batch_size: int) -> Iterator[Tensor]:
    """Yield the indices (batch_size,) of shuffled batches, for ever."""
    while True:
        yield from torch.randperm(size)[: size // batch_size * batch_size].split(batch_size)


class Turns(Callback):
    """Let others take as many training steps as the trainer has taken, and add up their seconds.

    Args:
        others: By name.
        every_n_steps: How long a turn is.
    """

    def __init__(self, others: Mapping[str, Run], every_n_steps: int = 50) -> None:
        self.others, self.every_n_steps, self.taken = others, every_n_steps, 0
        self.seconds = dict.fromkeys(others, 0.0)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Hand over when it is time."""
        if trainer.global_step % self.every_n_steps == 0:
            self.take()

    def take(self) -> None:
        """Let each of the others take a turn."""
        self.taken += 1
        for name, run in self.others.items():
            self.seconds[name] += seconds(partial(run, self.every_n_steps))

    def rates(self, batch_size: int) -> dict[str, float]:
        """Give each one's images a second."""
        images = self.taken * self.every_n_steps * batch_size
        return {name: images / spent for name, spent in self.seconds.items()}


class LastStep(Callback):
    """Remember when training began and when its last step ended."""

    began = stepped = math.nan

    def on_train_start(self, *_: Any) -> None:
        """Remember."""
        self.began = perf_counter()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Remember, once the device has done it."""
        if trainer.global_step >= trainer.max_steps:
            synchronise()
            self.stepped = perf_counter()


def by_trainer(steps: int, *overrides: str, turns: Turns | None = None) -> float:
    """Train as ``python -m gan_lightning.train experiment=article`` does, validation, checkpoint and all.

    What follows the last step counts for the share that so few steps have in the experiment's own interval between
    validations.

    Args:
        steps: How many.
        overrides: As on the command line.
        turns: Takes turns with others.

    Returns:
        Images a second, without the others' time.
    """
    composed = config.compose(
        "train",
        [
            "experiment=article",
            f"trainer.accelerator={'gpu' if DEVICE.type == 'cuda' else 'cpu'}",
            f"trainer.max_steps={steps}",
            *overrides,
        ],
    )
    gan, data = build_from(composed)
    callbacks = [*make_callbacks(composed), *([turns] if turns else [])]
    at_once = gan.steps_per_batch = data.steps_per_batch = steps_per_batch(config.plain(composed), gan, callbacks, 0)
    if composed.compile:
        compile_networks(gan)
    if composed.cuda_graphs:
        graph_steps(gan)
    torch.set_float32_matmul_precision(composed.matmul_precision)
    clock = LastStep()
    with tempfile.TemporaryDirectory() as folder:
        trainer = instantiate(
            {key: value for key, value in composed.trainer.items() if key not in (*BY_THE_GAN, "max_time")},
            val_check_interval=steps // at_once,
            default_root_dir=folder,
            logger=make_logger(composed, Path(folder), 0),
            callbacks=[*callbacks, clock],
            _convert_="all",
        )
        trainer.fit(gan, data)
    ended = perf_counter()
    torch.set_float32_matmul_precision("highest")
    share = steps / composed.trainer.val_check_interval
    spent = clock.stepped - clock.began - sum(turns.seconds.values() if turns else ())
    spent += share * (ended - clock.stepped)
    return steps * data.batch_size * gan.k / spent


def products(
    network: nn.Module, rows: int, dtype: torch.dtype = torch.float32
) -> list[tuple[Product, Product, Product]]:
    """Give each linear layer's three matrix products, as pairs to multiply: forward, backward by weights, by inputs."""
    found: list[tuple[Product, Product, Product]] = []
    for layer in (m for m in network.modules() if isinstance(m, nn.Linear)):
        shapes = (rows, layer.in_features), (rows, layer.out_features), (layer.out_features, layer.in_features)
        x, y, w = (torch.randn(shape, dtype=dtype, device=DEVICE) for shape in shapes)
        found.append(((x, w.T), (y.T, x), (y, w)))
    return found


def limit(batch_size: int, precision: str = "32-true") -> Run:
    """Do the matrix products of a step, and nothing else.

    G: forward, and backward by its weights and, but for the first layer, its inputs. D in its own half: the same on
    real and generated images. D in G's half: forward, and backward by its inputs.
    """
    gan, _ = build()
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    pairs = []
    for network, rows in ((gan.generator, batch_size), (gan.discriminator, 2 * batch_size)):
        for i, (forward, by_weights, by_inputs) in enumerate(products(network, rows, dtype)):
            pairs += [forward, by_weights, by_inputs] if i else [forward, by_weights]
    for forward, _, by_inputs in products(gan.discriminator, batch_size, dtype):
        pairs += [forward, by_inputs]

    def run(n: int) -> None:
        for _ in range(n):
            for a, b in pairs:
                torch.mm(a, b)

    run(1)
    return run

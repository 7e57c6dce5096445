"""The article's GAN trained by a textbook script, by a hand-written loop, by ``Trainer.fit``, and its bare products.

All run on the GPU if there is one. The hand-written loop does what the package does, without any framework; the
textbook script is what tutorials show; the limit is the time of the step's matrix products only.
"""

import logging
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
from pytorch_lightning import Callback, Trainer
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, softplus
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, Normalize, ToTensor

from benchmarks.machine import DEVICE, Run, seconds, synchronize
from gan_lightning import perf
from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.gan import GAN
from gan_lightning.perf.split_linear import split_linear_layers
from gan_lightning.run import build, config
from gan_lightning.run.fill_in import fill_in

Product = tuple[Tensor, Tensor]
ADAM = {"lr": 2e-4, "betas": (0.5, 0.999)}


def article(model: str = "mlp") -> tuple[GAN, ImageDataModule]:
    """Return the article's GAN, possibly with other networks, on the device, and its data, set up."""
    composed = fill_in(config.compose("train", ["experiment=article", f"model={model}"]))
    gan, data = build.gan(composed), build.data(composed)
    data.prepare_data()
    data.setup()
    return gan.to(DEVICE), data


def autocast(precision: str) -> AbstractContextManager[None]:
    """Return a context that computes in bf16 where that is safe, if the precision is ``bf16-mixed``."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16-mixed", cache_enabled=False)


def textbook_batches(batch_size: int) -> DataLoader[Any]:
    """Torchvision's MNIST with ToTensor and Normalize, through a DataLoader."""
    images = MNIST(config.compose("train").data.root, transform=Compose([ToTensor(), Normalize(0.5, 0.5)]))
    return DataLoader(images, batch_size, shuffle=True, drop_last=True)


def textbook(batch_size: int) -> Run:
    """Return a function that trains like the usual one-file script: PIL images, BCELoss on a sigmoid, Adam."""
    gan, _ = article()
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


def contiguous(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return a layer's inputs with the pixels of a channel next to each other."""
    return tuple(x.contiguous() for x in inputs)


def by_hand(
    batch_size: int,
    precision: str = "32-true",
    *,
    model: str = "mlp",
    fused: bool = True,
    split: bool = True,
    shared: bool = True,
    joint: bool = True,
    frozen: bool = True,
    channels_last: bool = True,
    compiled: bool = False,
    captured: bool = False,
) -> Run:
    """Return a function that trains by the package's mathematics and layers, without framework or logs.

    Args:
        batch_size: Real images in a minibatch.
        precision: ``32-true`` or ``bf16-mixed``.
        model: Name of a file in conf/model.
        fused: Adam in one kernel.
        split: Split linear layers.
        shared: One pass through G serves both updates.
        joint: Real and generated images go through D in one pass.
        frozen: No gradients for D's weights in the generator's update.
        channels_last: Convolutional networks keep their own memory format, in which a pixel's channels are adjacent.
        compiled: Both networks compiled with ``torch.compile``.
        captured: The whole step as a CUDA graph.
    """
    gan, data = article(model)
    if split and not compiled:
        split_linear_layers(gan)
    generator, discriminator = gan.generator.train(), gan.discriminator.train()
    for network in () if channels_last else (generator, discriminator):
        network.to(memory_format=torch.contiguous_format).get_submodule("layers").register_forward_pre_hook(contiguous)
    generator_optimizer, discriminator_optimizer = (
        torch.optim.Adam(network.parameters(), fused=fused, capturable=captured, **ADAM)  # type: ignore[arg-type]
        for network in (generator, discriminator)
    )
    g, d = (torch.compile(generator), torch.compile(discriminator)) if compiled else (generator, discriminator)
    images, batches = data.train.images.to(DEVICE), order(len(data.train), batch_size)  # type: ignore[union-attr]
    index, latent_dim = next(batches).to(DEVICE), gan.fixed_latents.shape[1]

    def step() -> None:
        real = images[index].float().div_(127.5).sub_(1)
        with autocast(precision):
            fake = g(torch.randn(batch_size, latent_dim, device=DEVICE))
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
            loss = -softplus(d(fake if shared else g(torch.randn(batch_size, latent_dim, device=DEVICE)))).mean()
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
    """Yield the indices (batch_size,) of shuffled batches, endlessly."""
    while True:
        yield from torch.randperm(size)[: size // batch_size * batch_size].split(batch_size)


class Turns(Callback):
    """Runs others for as many training steps as the trainer has taken, in turns, and adds up their seconds.

    Args:
        others: By name.
        every_n_steps: Length of a turn.
    """

    def __init__(self, others: Mapping[str, Run], every_n_steps: int = 50) -> None:
        self.others, self.every_n_steps, self.taken = others, every_n_steps, 0
        self.seconds = dict.fromkeys(others, 0.0)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Run the others if a turn has ended."""
        if trainer.global_step % self.every_n_steps == 0:
            self.take()

    def take(self) -> None:
        """Run each of the others for one turn."""
        self.taken += 1
        for name, run in self.others.items():
            self.seconds[name] += seconds(partial(run, self.every_n_steps))

    def rates(self, batch_size: int) -> dict[str, float]:
        """Return the images per second of each."""
        images = self.taken * self.every_n_steps * batch_size
        return {name: images / spent for name, spent in self.seconds.items()}


class LastStep(Callback):
    """Records when training began and when its last step ended."""

    began = stepped = math.nan

    def on_train_start(self, *_: Any) -> None:
        """Record the time."""
        self.began = perf_counter()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Record the time, once the device has finished."""
        if trainer.global_step >= trainer.max_steps:
            synchronize()
            self.stepped = perf_counter()


def by_trainer(steps: int, *overrides: str, turns: Turns | None = None) -> float:
    """Train as ``python -m gan_lightning.train experiment=article`` does, validation, checkpoint and all.

    The validation at the end counts for the share that so few steps have in the experiment's own interval between
    validations.

    Args:
        steps: Length of the run.
        overrides: As on the command line.
        turns: Runs others in between.

    Returns:
        Images per second, without the others' time.
    """
    accelerator = f"trainer.accelerator={'gpu' if DEVICE.type == 'cuda' else 'cpu'}"
    typed = ["experiment=article", accelerator, f"trainer.max_steps={steps}", *overrides]
    composed = fill_in(config.compose("train", typed))
    interval, composed.trainer.val_check_interval = composed.trainer.val_check_interval, steps
    gan, data, metrics = build.gan(composed), build.data(composed), build.metrics(composed)
    torch.set_float32_matmul_precision(composed.matmul_precision)
    clock = LastStep()
    logging.getLogger("gan_lightning").setLevel(logging.ERROR)  # the others' turns look like a slow machine
    composed.callbacks.final_evaluation = None
    callbacks = [*build.callbacks(composed, metrics), *([turns] if turns else []), clock]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        trainer = build.trainer(composed, run, callbacks, logger=build.logger(composed, run, 0))
        perf.apply(
            gan, trainer, cpu_tuning=composed.cpu_tuning, compile=composed.compile, cuda_graphs=composed.cuda_graphs
        )
        trainer.fit(gan, data)
    ended = perf_counter()
    torch.set_float32_matmul_precision("highest")
    spent = clock.stepped - clock.began - sum(turns.seconds.values() if turns else ())
    spent += steps / interval * (ended - clock.stepped)
    return steps * data.batch_size * gan.k / spent


def products(
    network: nn.Module, rows: int, dtype: torch.dtype = torch.float32
) -> list[tuple[Product, Product, Product]]:
    """Return each linear layer's three matrix products as pairs of factors: forward, gradient of weights, of inputs."""
    found: list[tuple[Product, Product, Product]] = []
    for layer in (m for m in network.modules() if isinstance(m, nn.Linear)):
        shapes = (rows, layer.in_features), (rows, layer.out_features), (layer.out_features, layer.in_features)
        x, y, w = (torch.randn(shape, dtype=dtype, device=DEVICE) for shape in shapes)
        found.append(((x, w.T), (y.T, x), (y, w)))
    return found


def limit(batch_size: int, precision: str = "32-true") -> Run:
    """Return a function that computes only the matrix products of n steps.

    G: forward, and the gradients of its weights and, except for the first layer, of its inputs. D in its own update:
    the same for real and generated images. D in G's update: forward, and the gradients of its inputs.
    """
    gan, _ = article()
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

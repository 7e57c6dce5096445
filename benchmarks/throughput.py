"""Images a second of ``Trainer.fit`` on the article's GAN, everything on, beside a loop of the same mathematics.

The loop is written by hand, as one would without any framework. The two take turns in one process, on the same data
in memory and with the same number of threads, so that their ratio holds when the machine's speed drifts.
"""

import argparse
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from hydra.utils import instantiate
from pytorch_lightning.callbacks import Timer
from torch.nn.functional import softplus

from gan_lightning import config
from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.gan import GAN
from gan_lightning.train import BY_THE_GAN, make_callbacks, make_logger, quiet

BATCH_SIZE = 64


def by_hand(gan: GAN, data: ImageDataModule, steps: int) -> float:
    """Train as one would without any framework, and log nothing; give images a second."""
    generator, discriminator = gan.generator.train(), gan.discriminator.train()
    adam = {"lr": 2e-4, "betas": (0.5, 0.999), "fused": True}
    generator_optimizer = torch.optim.Adam(generator.parameters(), **adam)  # type: ignore[arg-type]
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), **adam)  # type: ignore[arg-type]
    pixels = data.train.images
    since = time.perf_counter()
    order, start = torch.randperm(len(pixels)), 0
    for _ in range(steps):
        if start + BATCH_SIZE > len(pixels):
            order, start = torch.randperm(len(pixels)), 0
        real = pixels[order[start : start + BATCH_SIZE]].float().div_(127.5).sub_(1)
        start += BATCH_SIZE
        fake = generator(torch.randn(BATCH_SIZE, 100))
        loss = softplus(-discriminator(real)).mean() + softplus(discriminator(fake.detach())).mean()
        discriminator_optimizer.zero_grad()
        loss.backward()
        discriminator_optimizer.step()
        discriminator.requires_grad_(False)
        loss = -softplus(discriminator(fake)).mean()
        generator_optimizer.zero_grad()
        loss.backward()
        generator_optimizer.step()
        discriminator.requires_grad_(True)
    return steps * BATCH_SIZE / (time.perf_counter() - since)


def by_trainer(gan: GAN, data: ImageDataModule, steps: int, folder: Path) -> float:
    """Train as ``python -m gan_lightning.train`` does; give images a second, validation and grids included."""
    length = [f"trainer.max_steps={steps}", f"trainer.val_check_interval={steps}"]
    composed = config.compose("train", ["experiment=article", "trainer.accelerator=cpu", *length])
    timer = Timer()
    trainer = instantiate(
        {key: value for key, value in composed.trainer.items() if key not in BY_THE_GAN},
        default_root_dir=str(folder),
        logger=make_logger(composed, folder, 0),
        callbacks=[timer, *make_callbacks(composed)],
    )
    trainer.fit(gan, data)
    return steps * BATCH_SIZE / timer.time_elapsed("train")


def main() -> None:
    """Measure by turns and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3124)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(torch.get_num_threads())
    quiet()
    composed = config.compose("train", ["experiment=article"])
    data: ImageDataModule = instantiate(composed.data, _convert_="all")
    data.prepare_data()
    data.setup()

    def new_gan() -> GAN:
        return instantiate(composed.gan, _convert_="all")

    by_hand(new_gan(), data, 100)  # warm up
    hand, fit = [], []
    for _ in range(arguments.repeats):
        hand.append(by_hand(new_gan(), data, arguments.steps))
        with tempfile.TemporaryDirectory() as folder:
            fit.append(by_trainer(new_gan(), data, arguments.steps, Path(folder)))
    ratios = [b / a for a, b in zip(hand, fit, strict=True)]
    print(
        f"\n{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, Python "
        f"{sys.version.split()[0]}, torch {torch.__version__}, batch {BATCH_SIZE}, {arguments.steps} steps, "
        f"{arguments.repeats} repeats\n"
    )
    print("| | median | min | max |\n| --- | --- | --- | --- |")
    for name, values, form in (
        ("loop by hand, images/s", hand, ",.0f"),
        ("Trainer.fit, everything on, images/s", fit, ",.0f"),
        ("Trainer.fit / loop by hand", ratios, ".3f"),
    ):
        row = (format(v, form) for v in (statistics.median(values), min(values), max(values)))
        print(f"| {name} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()

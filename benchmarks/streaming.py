"""What it takes to list and read a folder of photos, or shards of them, next to what training on them takes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from litdata import optimize
from PIL import Image

from benchmarks.loops import by_trainer
from benchmarks.machine import seconds
from gan_lightning.data.conversion import Conversion
from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.data.folder import Folder
from gan_lightning.data.shards import Shards

WIDTH, HEIGHT, SIZE, BATCH_SIZE = 1600, 1200, 64, 64
MODELS = ("mlp", "dcgan")
OCTAVES = (4, 8, 16, 32, 64, 128, 256, 512)  # columns of the noise whose sum is like a photo's areas and edges


def write_photos(folder: Path, number: int) -> None:
    """Write JPEGs of quality 90, 1,600 x 1,200: noise whose spectrum falls as a photo's does, and a sensor's grain."""
    rng = np.random.default_rng(0)
    scenes = []
    for _ in range(8):
        scene = np.zeros((HEIGHT, WIDTH, 3))
        for columns in OCTAVES:
            colors = rng.normal(0, 60, (columns * 3 // 4, columns, 1)) + rng.normal(
                0, 20, (columns * 3 // 4, columns, 3)
            )
            noise = Image.fromarray((colors + 127.5).clip(0, 255).astype(np.uint8))
            scene += (np.asarray(noise.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)) - 127.5) * 2 / columns**0.5
        scenes.append(scene + 127.5)
    grain = rng.normal(0, 3, (2 * HEIGHT, WIDTH, 1))
    for i in range(number):
        shifted = np.roll(scenes[i % len(scenes)], rng.integers(WIDTH), axis=1)
        pixels = shifted + grain[(row := rng.integers(HEIGHT)) : row + HEIGHT]
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i:04}.jpg", quality=90)


def listing(folder: Path) -> float:
    """Return the seconds in which the folder is listed and all headers are read, as once at the start of a run."""
    return seconds(lambda: Folder(str(folder)).check(Conversion(size=SIZE, channels=3)))


def write_shards(folder: Path, shards: Path) -> None:
    """Write a folder's pictures into shards of 64 MB."""
    optimize(content, Folder(str(folder)).files, output_dir=str(shards), chunk_bytes="64MB", num_workers=1)


def content(file: tuple[str, int]) -> tuple[bytes, int]:
    """Return a picture's file as bytes, and its label."""
    path, label = file
    return Path(path).read_bytes(), label


def reading(root: str, dataset: type, num_workers: int) -> float:
    """Return the images per second that the data module reads, over a whole epoch, with its workers started already."""
    data = ImageDataModule(
        dataset=dataset,
        root=root,
        batch_size=BATCH_SIZE,
        val_size=1,
        seed=0,
        image_size=SIZE,
        channels=3,
        in_memory=False,
        num_workers=num_workers,
    )
    data.setup()
    loader = data.train_dataloader()
    if num_workers:
        next(iter(loader))  # starts them
    return len(loader) * BATCH_SIZE / seconds(lambda: list(loader))


def streaming(folder: Path, shards: Path, steps: int) -> dict[str, Callable[[], float]]:
    """Return functions that measure reading alone, training on images in memory, and both at once, in images/s."""
    typed = ["data=folder", f"data.root={folder}", f"data.image_size={SIZE}", f"data.batch_size={BATCH_SIZE}"]
    typed += [f"callbacks.{name}=null" for name in ("validation_metrics", "paper_figures", "sample_grid")]
    sources = {
        "": (str(folder), Folder),
        " shards": (str(shards), Shards),
        " cached shards": (f"local:{shards}", Shards),
    }
    found: dict[str, Callable[[], float]] = {
        f"reading{what}, num_workers={number}": partial(reading, root, dataset, number)
        for number in (0, 1, 2)
        for what, (root, dataset) in sources.items()
    }
    for model in MODELS:
        train = partial(by_trainer, steps, f"model={model}", *typed)
        found[f"{model}, images in memory"] = partial(train, "data.in_memory=true")
        found[f"{model}, streamed, num_workers=2"] = partial(train, "data.in_memory=false", "data.num_workers=2")
    return found

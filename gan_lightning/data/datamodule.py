"""The LightningDataModule over torchvision-style data sets."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from gan_lightning.data.images import InMemoryImages, ShuffledBatches, StreamedImages, normalise
from gan_lightning.errors import InputError


@contextmanager
def alone(folder: str) -> Iterator[None]:
    """Hold the lock of a folder, made if it is absent and left if it is not empty, against reading half a data set."""
    descriptor, path = None, Path(folder).absolute()
    absent = [p for p in (path, *path.parents) if not p.exists()]
    with suppress(ImportError, OSError):  # Windows; a file system without locks, or to read only
        import fcntl

        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with suppress(OSError):
            for made in absent:
                made.rmdir()
        if descriptor is not None:
            os.close(descriptor)


class ImageDataModule(LightningDataModule):
    """Serve an image data set: bytes on the way, floats in [-1, 1] on the device.

    The last ``val_size`` images of the official training set are for validation, as in the paper's own code; the
    official test set stays apart.

    Args:
        dataset: ``dataset(root, train=..., download=...)`` gives a torchvision-style data set.
        root: The folder that holds the data sets.
        batch_size: Real images in a minibatch, on each device.
        val_size: Images held out of the training set.
        seed: Fixes the order of the training images.
        device: Where training images stay: "cpu", or "auto": on the accelerator, if half its free memory holds them.
        in_memory: False: the training images are read from their source as they are needed.
        num_workers: Processes that read them, if they are not in memory; 0: none but this one.
        minibatches_per_step: How many minibatches a training step takes.
        steps_per_batch: Of how many training steps Lightning gets the images at once.
        image_shape: (C, H, W) that the images must have; None: any.
        eval_batch_size: Images in a batch of validation or test data.

    Raises:
        InputError: If the data set is not there and cannot be downloaded, if its images have another shape, or if
            one training step needs more images than there are.
    """

    train: InMemoryImages | StreamedImages
    val: InMemoryImages
    test: InMemoryImages

    def __init__(
        self,
        *,
        dataset: Callable[..., Any],
        root: str,
        batch_size: int,
        val_size: int,
        seed: int,
        device: str = "auto",
        in_memory: bool = True,
        num_workers: int = 2,
        minibatches_per_step: int = 1,
        steps_per_batch: int = 1,
        image_shape: Sequence[int] | None = None,
        eval_batch_size: int = 1000,
    ) -> None:
        super().__init__()
        self.dataset, self.root = dataset, root
        self.batch_size, self.val_size, self.seed = batch_size, val_size, seed
        self.device, self.in_memory, self.num_workers = device, in_memory, num_workers
        self.minibatches_per_step, self.steps_per_batch = minibatches_per_step, steps_per_batch
        self.image_shape, self.eval_batch_size = image_shape, eval_batch_size
        self.resumed_at = 0

    def state_dict(self) -> dict[str, int]:
        """Tell a checkpoint how many steps have taken their images, and on how many devices."""
        return {"step": self.trainer.global_step, "world_size": self.trainer.world_size}  # type: ignore[union-attr]

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from there; Lightning may ask for the first batches before it restores its own step.

        Raises:
            InputError: If there are more or fewer devices now, so that steps would be of another size.
        """
        if (now := self.trainer.world_size) != (then := state_dict["world_size"]):  # type: ignore[union-attr]
            raise InputError(f"trainer.devices: {now} in all; allowed: {then}, as the checkpoint's run had")
        self.resumed_at = state_dict["step"]

    def prepare_data(self) -> None:
        """Fetch the data set unless it is there; runs in one process of a run, while other runs wait."""
        kind = getattr(self.dataset, "func", self.dataset)
        for train in (True, False):
            try:
                with alone(self.root), redirect_stdout(StringIO()):
                    self.dataset(self.root, train=train, download=True)
            except FileNotFoundError as error:
                raise InputError(f"data.root={self.root}: {error}") from error
            except (RuntimeError, OSError) as error:
                if isinstance(error, RuntimeError) and not kind.__module__.startswith("torchvision."):
                    raise  # a fault in a data set of one's own
                raise InputError(
                    f"data.root={self.root}: {kind.__name__} is not there and could not be downloaded: {error}".strip()
                ) from error

    def setup(self, stage: str | None = None) -> None:
        """Load and split, once."""
        if hasattr(self, "test"):
            return
        source = self.dataset(self.root, train=True, download=False)
        cut = len(source) - self.val_size
        if cut < 1:
            raise InputError(f"data.val_size={self.val_size}: allowed: at most {len(source) - 1}")
        if self.in_memory:
            official = InMemoryImages.of(source)
            self.train, self.val = InMemoryImages(*official[:cut]), InMemoryImages(*official[cut:])
        else:
            self.train = StreamedImages(source, cut)
            self.val = InMemoryImages(*StreamedImages(source, len(source))[torch.arange(cut, len(source))])
        found = list(self.val.images.shape[1:])
        if self.image_shape and list(self.image_shape) != found:
            raise InputError(f"model.image_shape={list(self.image_shape)}: the data set's images have {found}")
        self.test = InMemoryImages.of(self.dataset(self.root, train=False, download=False))
        if self.device == "auto" and self.trainer and isinstance(self.train, InMemoryImages):
            self.train = self.train.to(self.trainer.strategy.root_device)

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches, each of the minibatches of ``steps_per_batch`` training steps."""
        wanted = getattr(self.trainer and self.trainer.lightning_module, "minibatches_per_step", None)
        if wanted not in (None, self.minibatches_per_step):
            raise InputError(f"minibatches_per_step={self.minibatches_per_step}: allowed: the GAN's, {wanted}")
        sampler = ShuffledBatches(
            size=len(self.train),
            batch_size=self.batch_size * self.minibatches_per_step,
            seed=self.seed,
            steps=self.steps_per_batch,
            step=lambda: max(self.resumed_at, self.trainer.global_step) if self.trainer else 0,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
        )
        if len(sampler) == 0:
            times = self.minibatches_per_step * sampler.world_size
            most = max(len(self.train) // times, 2)
            raise InputError(
                f"data.batch_size={self.batch_size}: a step takes {times} minibatches on all devices, and "
                f"data.val_size={self.val_size} leaves {len(self.train)} training images; allowed: at most "
                f"{most}, and {times * most} training images or more"
            )
        workers = 0 if self.in_memory else self.num_workers
        return DataLoader(
            self.train, sampler=sampler, batch_size=None, num_workers=workers, persistent_workers=workers > 0
        )

    def val_dataloader(self) -> DataLoader:
        """The validation images in their order."""
        return self._in_order(self.val)

    def test_dataloader(self) -> DataLoader:
        """The official test images in their order."""
        return self._in_order(self.test)

    def _in_order(self, images: InMemoryImages) -> DataLoader:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        if len(images) < world_size:
            raise InputError(f"{len(images)} images to validate (data.val_size) or test; allowed: {world_size} or more")
        number = math.ceil(len(images) / (world_size * self.eval_batch_size))  # the same on all ranks, as DDP needs
        batches = torch.arange(rank, len(images), world_size).tensor_split(number)
        return DataLoader(images, sampler=batches, batch_size=None)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> Any:
        """Turn bytes into floats in [-1, 1], on the device."""
        images, labels = batch
        return normalise(images), labels

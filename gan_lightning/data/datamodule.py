"""The LightningDataModule over torchvision-style data sets."""

import hashlib
import math
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from gan_lightning.data.images import InMemoryImages, StreamedImages, normalize
from gan_lightning.data.integrity import check_archives
from gan_lightning.data.samplers import ShuffledBatches
from gan_lightning.errors import InputError, third_party_errors

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class ImageDataModule(LightningDataModule):
    """Training, validation and test images: bytes until they are on the device, then floats in [-1, 1].

    The last ``val_size`` images of the official training set are the validation set, as in the paper's own code.

    Args:
        dataset: ``dataset(root, train=..., download=...)`` returns a torchvision-style data set.
        root: The folder that holds the data sets.
        batch_size: Real images per minibatch and device.
        val_size: Number of validation images.
        seed: Determines the order of the training images.
        device: Where training images are held: "cpu", or "auto" for the accelerator if half its free memory holds them.
        in_memory: Whether the training images are held in memory or read from their source when needed; some data sets
            hold them in any case, see :meth:`InMemoryImages.of`.
        num_workers: Processes that read images which are not held in memory; 0 reads them in this process.
        minibatches_per_step: Minibatches per training step; a batch holds all of them.
        image_shape: (C, H, W) that the images must have; None accepts any shape.
        num_classes: Number of classes that the labels must not exceed; 0 accepts any labels.
        eval_batch_size: Images per batch of validation or test data.

    Raises:
        ValueError: If an argument is out of range.

    Attributes:
        download: Whether :meth:`prepare_data` may write to ``root``.
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
        image_shape: Sequence[int] | None = None,
        num_classes: int = 0,
        eval_batch_size: int = 1000,
    ) -> None:
        super().__init__()
        for name, value, minimum in (
            ("batch_size", batch_size, 1),
            ("val_size", val_size, 1),
            ("num_workers", num_workers, 0),
            ("minibatches_per_step", minibatches_per_step, 1),
            ("eval_batch_size", eval_batch_size, 1),
        ):
            if value < minimum:
                raise ValueError(f"{name}={value}: must be at least {minimum}")
        if device not in ("auto", "cpu"):
            raise ValueError(f"device={device}: must be auto or cpu")
        self.dataset, self.root = dataset, root
        self.batch_size, self.val_size, self.seed = batch_size, val_size, seed
        self.device, self.in_memory, self.num_workers = device, in_memory, num_workers
        self.minibatches_per_step, self.image_shape = minibatches_per_step, image_shape
        self.num_classes = num_classes
        self.eval_batch_size = eval_batch_size
        self.resumed_at, self.download = 0, True

    def state_dict(self) -> dict[str, int]:
        """Return the number of steps whose images have been used, and the number of devices."""
        return {"step": self.trainer.global_step, "world_size": self.trainer.world_size}  # type: ignore[union-attr]

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Resume at that step; Lightning may ask for the first batches before it restores its own step.

        Raises:
            InputError: If the number of devices has changed, and with it the number of images per step.
        """
        if (world_size := self.trainer.world_size) != state_dict["world_size"]:  # type: ignore[union-attr]
            expected = state_dict["world_size"]
            raise InputError(f"trainer.devices: must be {expected} in all, as when the run began; now {world_size}")
        self.resumed_at = state_dict["step"]

    def prepare_data(self) -> None:
        """Check, download and unpack the data set where needed; other runs on this machine wait for it.

        Raises:
            InputError: If it is damaged, or absent and cannot be downloaded.
        """
        with lock(self.root), redirect_stdout(StringIO()):
            kind = getattr(self.dataset, "func", self.dataset)
            check_archives(getattr(kind, "source", kind), self.root, remove=self.download)
            for train in (True, False) if self.download else ():
                self.open(train=train, download=True)

    def open(self, *, train: bool, download: bool) -> Any:
        """Return the official training or test set.

        Raises:
            InputError: If it is damaged, or absent and cannot be downloaded, or if its class rejects an argument.
        """
        kind = getattr(self.dataset, "func", self.dataset)
        name = getattr(kind, "__name__", kind)
        with third_party_errors(f"data.root={self.root}: cannot be read as {name}", key="data.dataset"):
            return self.dataset(self.root, train=train, download=download)

    def setup(self, stage: str | None = None) -> None:
        """Load and split the data, once.

        Raises:
            InputError: If ``val_size`` leaves no training image, or if the images have another shape or more classes.
        """
        if hasattr(self, "test"):
            return
        source = self.open(train=True, download=False)
        cut = len(source) - self.val_size
        if cut < 1:
            needed = self.batch_size * self.minibatches_per_step
            raise InputError(
                f"data.val_size={self.val_size}: must leave at least {needed} of {len(source)} training images"
            )
        holds_images = hasattr(source, "labeled_images")
        first, _ = (InMemoryImages.of(source) if holds_images else StreamedImages(source, 1))[torch.arange(1)]
        if self.image_shape and list(self.image_shape) != (shape := list(first.shape[1:])):
            raise InputError(f"model.image_shape={list(self.image_shape)}: must be {shape} for this data set")
        if self.in_memory or holds_images:
            official = InMemoryImages.of(source)
            self.train, self.val = official.first(cut), InMemoryImages(*official[cut:])
            labels = official.labels
        else:
            self.train = StreamedImages(source, cut)
            self.val = InMemoryImages(*StreamedImages(source, len(source))[torch.arange(cut, len(source))])
            labels = torch.as_tensor(getattr(source, "targets", self.val.labels))
        test = InMemoryImages.of(self.open(train=False, download=False))
        largest = max(int(labels.max()), int(test.labels.max()))
        if self.num_classes and largest >= self.num_classes:
            raise InputError(f"model.num_classes={self.num_classes}: must be at least {largest + 1} for this data set")
        self.test = test
        if self.device == "auto" and self.trainer and isinstance(self.train, InMemoryImages):
            self.train = self.train.to(self.trainer.strategy.root_device)

    def train_dataloader(self) -> DataLoader:
        """Return shuffled batches, one per training step.

        Raises:
            InputError: If a step needs more images than the training set has.
        """
        sampler = ShuffledBatches(
            size=len(self.train),
            batch_size=self.batch_size * self.minibatches_per_step,
            seed=self.seed,
            step=lambda: max(self.resumed_at, self.trainer.global_step) if self.trainer else 0,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
        )
        if len(sampler) == 0:
            size, minibatches = len(self.train), self.minibatches_per_step * sampler.world_size
            raise InputError(
                f"data.batch_size={self.batch_size}: a step needs {self.batch_size * minibatches} images, but "
                f"data.val_size={self.val_size} leaves only {size} of {size + self.val_size}; reduce either"
            )
        workers = 0 if self.in_memory else self.num_workers
        return TrainLoader(
            self.train,
            sampler=sampler,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=wait_for_parent,
        )

    def val_dataloader(self) -> DataLoader:
        """Return the validation images in order.

        Raises:
            InputError: If a device would have none.
        """
        if self.trainer and self.val_size < self.trainer.world_size:
            raise InputError(
                f"data.val_size={self.val_size}: must be at least {self.trainer.world_size}, one per device"
            )
        return self._in_order(self.val)

    def test_dataloader(self) -> DataLoader:
        """Return the official test images in order."""
        return self._in_order(self.test)

    def _in_order(self, images: InMemoryImages) -> DataLoader:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        number = math.ceil(len(images) / (world_size * self.eval_batch_size))  # the same on all ranks, as DDP needs
        batches = torch.arange(rank, len(images), world_size).tensor_split(number)
        return DataLoader(images, sampler=batches, batch_size=None)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> Any:
        """Convert bytes to floats in [-1, 1], on the device."""
        images, labels = batch
        return normalize(images), labels


class TrainLoader(DataLoader):
    """A DataLoader whose workers leave SIGINT and SIGTERM to the main process.

    A terminal sends Ctrl-C to all processes of a run, and a scheduler SIGTERM. The main process finishes its step, and
    needs its workers for that.
    """

    def __iter__(self) -> Any:
        """Start the workers, if any, with both signals blocked."""
        if self.num_workers == 0 or not hasattr(signal, "pthread_sigmask"):  # which Windows lacks
            return super().__iter__()
        former = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            return super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)


def wait_for_parent(_: int) -> None:
    """End this worker when its parent sends SIGTERM, as multiprocessing does at exit, and not when others do."""

    def wait() -> None:
        while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
            pass
        os._exit(0)

    if hasattr(signal, "sigwaitinfo"):
        threading.Thread(target=wait, daemon=True).start()
    elif hasattr(signal, "pthread_sigmask"):  # macOS
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def lock(root: str) -> FileLock:
    """Return the lock that keeps runs of this user from unpacking into the same folder at the same time.

    Its file is in the system's temporary folder, as the data may be read-only.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0  # another user's lock file could not be opened
    name = hashlib.sha256(str(Path(root).absolute()).encode()).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"gan_lightning-{user}-{name}.lock")

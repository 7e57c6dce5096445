"""The LightningDataModule over torchvision-style data sets."""

import hashlib
import inspect
import logging
import math
import os
import tempfile
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

from gan_lightning.data.conversion import Conversion
from gan_lightning.data.images import InMemoryImages, StreamedImages, fitting_batch_size, image_shape, normalize
from gan_lightning.data.integrity import check_files
from gan_lightning.data.samplers import ShuffledBatches, own_part
from gan_lightning.data.workers import TrainLoader, check_shared_memory, wait_for_parent
from gan_lightning.errors import InputError, third_party_errors
from gan_lightning.seeding import fold

HELD_BYTES = 2**28  # at most, of a split that is held in memory unless told otherwise
logger = logging.getLogger(__name__)
FLIP = 1  # stream of random numbers that choose mirrored images


class ImageDataModule(LightningDataModule):
    """Training, validation and test images: bytes until they are on the device, then floats in [-1, 1].

    The last ``val_size`` images of the official training set are the validation set, as in the paper's own code.

    Args:
        dataset: ``dataset(root, ...)`` returns a torchvision-style data set. It is given those of ``train=True`` or
            ``False``, ``split="train"`` or ``"test"``, ``download`` and ``on_error`` that it takes. A data set with a
            method ``test_set()``, which returns its test images, is opened only once.
        root: The folder that holds the data sets.
        batch_size: Real images per minibatch and device. Where the training set is smaller, its images are repeated.
        val_size: Number of validation images; None: a tenth of the training set, at most 1,000.
        seed: Determines the order of the training images.
        device: Where training images are held: "cpu", or "auto" for the accelerator if half its free memory holds them.
        in_memory: Whether the training images are held in memory or read from their source when needed; None: if they
            have at most ``HELD_BYTES``. Some data sets hold them in any case, see :meth:`InMemoryImages.of`.
        num_workers: Processes that read images which are not held in memory; 0 reads them in this process.
        minibatches_per_step: Minibatches per training step; a batch holds all of them.
        image_size: See :class:`gan_lightning.data.conversion.Conversion`, as for the next four.
        channels: 1 for grayscale, 3 for color; None: the images' own.
        fit: "crop", "pad" or "stretch".
        background: Gray level, or red, green and blue, behind transparent pixels and of what "pad" adds.
        white: Value of white in images of more than 8 bits.
        flip: Whether each training image is mirrored with probability 1/2 each time it is drawn.
        on_error: "raise" or "skip"; see :class:`gan_lightning.data.folder.Folder`.
        image_shape: (C, H, W) that the images must have; None accepts any shape.
        num_classes: Number of classes that the labels must not exceed; 0 accepts any labels.
        eval_batch_size: Images per batch of validation or test data; None: see
            :func:`gan_lightning.data.images.fitting_batch_size`.

    Raises:
        ValueError: If an argument is out of range.

    Attributes:
        download: Whether :meth:`prepare_data` may write to ``root``.
    """

    train: InMemoryImages | StreamedImages
    val: InMemoryImages | StreamedImages
    test: InMemoryImages | StreamedImages

    def __init__(
        self,
        *,
        dataset: Callable[..., Any],
        root: str,
        batch_size: int,
        val_size: int | None,
        seed: int,
        device: str = "auto",
        in_memory: bool | None = True,
        num_workers: int = 2,
        image_size: int | Sequence[int] | None = None,
        channels: int | None = None,
        fit: str = "crop",
        background: int | Sequence[int] = 255,
        white: float | None = None,
        flip: bool = False,
        on_error: str = "raise",
        minibatches_per_step: int = 1,
        image_shape: Sequence[int] | None = None,
        num_classes: int = 0,
        eval_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        for name, value, minimum in (
            ("batch_size", batch_size, 1),
            ("val_size", val_size, 1),
            ("num_workers", num_workers, 0),
            ("minibatches_per_step", minibatches_per_step, 1),
            ("eval_batch_size", eval_batch_size, 1),
        ):
            if value is not None and value < minimum:
                raise ValueError(f"{name}={value}: must be at least {minimum}")
        if device not in ("auto", "cpu"):
            raise ValueError(f"device={device}: must be auto or cpu")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error={on_error}: must be raise or skip")
        self.conversion = Conversion(size=image_size, channels=channels, fit=fit, background=background, white=white)
        self.dataset, self.root = dataset, root
        self.batch_size, self.val_size, self.seed = batch_size, val_size, seed
        self.flip, self.on_error, self.files = flip, on_error, ""
        self.device, self.in_memory, self.num_workers = device, in_memory, num_workers
        self.minibatches_per_step, self.image_shape = minibatches_per_step, image_shape
        self.num_classes = num_classes
        self.eval_batch_size = eval_batch_size
        self.resumed_at, self.download = 0, True
        self.blocks: Sequence[int] = ()
        self.source: tuple[Any, str] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return how many steps' images have been used, how many images a minibatch has, and which files there are."""
        state = {"step": self.trainer.global_step, "global_batch_size": self.global_batch_size()}  # type: ignore[union-attr]
        return state | ({"files": self.files} if self.files else {})

    def global_batch_size(self) -> int:
        """Return the number of real images per minibatch on all devices together."""
        return self.batch_size * self.trainer.world_size  # type: ignore[union-attr]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume at that step; Lightning may ask for the first batches before it restores its own step.

        Warn if the files are not those that there were when the checkpoint was saved.

        Raises:
            InputError: If the number of images per minibatch has changed.
        """
        size = self.global_batch_size()
        if size != (expected := state_dict.get("global_batch_size", size)):  # version 0.5.0 did not save it
            devices = f"{self.trainer.world_size} with data.batch_size={self.batch_size}"  # type: ignore[union-attr]
            raise InputError(
                f"trainer.devices: {devices} make minibatches of {size}; the checkpoint's run has {expected}"
            )
        self.warn_of_changes(state_dict)
        self.resumed_at = state_dict["step"]

    def warn_of_changes(self, state_dict: dict[str, Any]) -> None:
        """Warn if the files are not those that there were when a checkpoint with this state was saved."""
        if state_dict.get("files", "") != self.files:
            logger.warning(
                "data.root=%s: pictures have been added, removed or renamed since the checkpoint was saved, so that "
                "training, validation and test images are others than before",
                self.root,
            )

    def prepare_data(self) -> None:
        """Check, download and unpack the data set where needed; other runs on this machine wait for it.

        Raises:
            InputError: If it is damaged, or absent and cannot be downloaded.
        """
        with lock(self.root), redirect_stdout(StringIO()):
            kind = getattr(self.dataset, "func", self.dataset)
            check_files(getattr(kind, "source", kind), self.root, remove=self.download)
            if self.download and "download" in self.takes():
                for train in (True, False):
                    self.open(train=train, download=True)
            else:  # what is wrong with it is found before the run writes anything
                self.source = self.open_and_check()

    def takes(self) -> set[str]:
        """Return the names of the arguments that the data set's constructor takes."""
        parameters = inspect.signature(self.dataset).parameters.values()
        any_name = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        return {parameter.name for parameter in parameters} | ({"train", "download"} if any_name else set())

    def open(self, *, train: bool, download: bool = False) -> Any:
        """Return the official training or test set.

        Raises:
            InputError: If it is damaged, or absent and cannot be downloaded, or if its class rejects an argument.
        """
        kind, taken = getattr(self.dataset, "func", self.dataset), self.takes()
        values = {"split": "train" if train else "test", "download": download, "on_error": self.on_error}
        values |= {"train": train}
        if "train" in taken:
            del values["split"]  # which then is something else, as EMNIST's
        chosen = {name: value for name, value in values.items() if name in taken}
        name = getattr(kind, "__name__", kind)
        if not train and not {"train", "split"}.intersection(chosen):
            raise InputError(f"data.dataset: {name} takes neither train nor split, and has no test_set()")
        if self.on_error != "raise" and "on_error" not in chosen:
            raise InputError(f"data.on_error={self.on_error}: must be raise, except for a folder of pictures")
        with third_party_errors(f"data.root={self.root}: cannot be read as {name}", key="data.dataset"):
            return self.dataset(self.root, **chosen)

    def open_and_check(self) -> tuple[Any, str]:
        """Return the official training set, and what it says of its own check."""
        source = self.open(train=True)
        return source, source.check(self.conversion) if hasattr(source, "check") else ""

    def setup(self, stage: str | None = None) -> None:
        """Load and split the data, once.

        Raises:
            InputError: If ``val_size`` leaves no training image, or if the images have another shape or more classes.
        """
        if hasattr(self, "test"):
            return
        source, found = self.source or self.open_and_check()
        self.source = None
        if hasattr(source, "fingerprint"):
            self.files = source.fingerprint()
        self.blocks = getattr(source, "blocks", ())
        with third_party_errors(f"data.dataset: {type(source).__name__} must have a length"):
            number = len(source)
        if self.val_size is None:
            self.val_size = min(max(number // 10, 1), 1000)
        cut = number - self.val_size
        if cut < 1:
            raise InputError(f"data.val_size={self.val_size}: must leave at least 1 of {number} training images")
        official = self.read(source, in_memory=self.in_memory)
        shape = list(image_shape(official))
        if hasattr(source, "labeled_images") and not self.conversion.keeps(shape):
            raise InputError(f"data.image_size, data.channels: must give the shape of this data set, {shape}")
        if self.image_shape and list(self.image_shape) != shape:
            where = ", as data.image_size and data.channels say" if self.conversion.size else ""
            raise InputError(f"model.image_shape={list(self.image_shape)}: must be {shape} for this data set{where}")
        self.train, self.val = official.split(cut)
        if isinstance(self.val, StreamedImages) and are_few(self.val):
            self.val = InMemoryImages(*self.val[torch.arange(len(self.val))])
        test = source.test_set() if hasattr(source, "test_set") else self.open(train=False)
        test_images = self.read(test, in_memory=None)
        if self.num_classes:
            largest = max(int(official.labels.max()), int(test_images.labels.max()))
            typed = f"model.num_classes={self.num_classes}"
            if largest >= self.num_classes:
                raise InputError(f"{typed}: must be at least {largest + 1} for this data set")
            if self.num_classes > len(known := getattr(source, "classes", range(self.num_classes))):
                raise InputError(f"{typed}: must be at most {len(known)} for this data set")
        if found and (not self.trainer or self.trainer.is_global_zero):
            logger.info("%s; %d to train, %d to validate, %d to test", found, cut, self.val_size, len(test_images))
        self.test = test_images
        if self.device == "auto" and self.trainer:
            self.train = self.train.to(self.trainer.strategy.root_device)

    def read(self, dataset: Any, *, in_memory: bool | None) -> InMemoryImages | StreamedImages:
        """Return the images of a data set, in memory if told so or, for None, if they have at most ``HELD_BYTES``."""
        streamed = StreamedImages(dataset, conversion=self.conversion)
        if in_memory or hasattr(dataset, "labeled_images") or (in_memory is None and are_few(streamed)):
            return InMemoryImages.of(dataset, self.conversion)
        return streamed

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled batches, one per training step.

        Raises:
            InputError: If the shared memory is too small for worker processes.
        """
        sampler = ShuffledBatches(
            size=len(self.train),
            batch_size=self.batch_size,
            minibatches=self.minibatches_per_step,
            seed=self.seed,
            step=lambda: max(self.resumed_at, self.trainer.global_step) if self.trainer else 0,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
            blocks=self.blocks,
        )
        workers = 0 if isinstance(self.train, InMemoryImages) else self.num_workers
        if workers:
            processes = workers * (self.trainer.num_devices if self.trainer else 1)
            check_shared_memory(
                processes, self.batch_size * self.minibatches_per_step * image_shape(self.train).numel()
            )
        return TrainLoader(
            self.train,
            sampler=sampler,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=wait_for_parent,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation images in order.

        Raises:
            InputError: If a device would have none.
        """
        if self.trainer and len(self.val) < self.trainer.world_size:
            raise InputError(
                f"data.val_size={len(self.val)}: must be at least {self.trainer.world_size}, one per device"
            )
        return self._in_order(self.val)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the official test images in order."""
        return self._in_order(self.test)

    def _in_order(self, images: InMemoryImages | StreamedImages) -> DataLoader[Any]:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        size = self.eval_batch_size or fitting_batch_size(image_shape(images))
        number = math.ceil(len(images) / (world_size * size))  # the same on all ranks, as DDP needs
        batches = torch.arange(rank, len(images), world_size).tensor_split(number)
        return DataLoader(images, sampler=batches, batch_size=None)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> Any:
        """Convert bytes to floats in [-1, 1], on the device, and mirror training images if ``flip``."""
        images, labels = batch
        if self.flip and self.trainer and self.trainer.training:
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
            generator = torch.Generator().manual_seed(fold(self.seed, 0, self.trainer.global_step, FLIP))
            chosen = torch.rand(len(images) * world_size, generator=generator) < 0.5
            chosen = own_part(chosen, self.minibatches_per_step, rank, world_size)
            images = torch.where(chosen.to(images.device)[:, None, None, None], images.flip(-1), images)
        return normalize(images), labels


def are_few(images: StreamedImages) -> bool:
    """Return whether images have at most ``HELD_BYTES``."""
    return image_shape(images).numel() * len(images) <= HELD_BYTES


def lock(root: str) -> FileLock:
    """Return the lock that keeps runs of this user from unpacking into the same folder at the same time.

    Its file is in the system's temporary folder, as the data may be read-only.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0  # another user's lock file could not be opened
    name = hashlib.sha256(str(Path(root).absolute()).encode()).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"gan_lightning-{user}-{name}.lock")

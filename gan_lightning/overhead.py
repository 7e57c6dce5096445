"""What a run costs besides its mathematics, kept small."""

import ctypes
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.trainer import call

from gan_lightning.errors import InputError
from gan_lightning.gan import GAN

AT_ONCE = 10  # more save next to nothing
LARGE = 2**20  # values: a step on more is long beside what Lightning adds, and ten of them take memory
IN_BATCHES = ("max_epochs", "min_epochs", "limit_train_batches", "fast_dev_run")
TRAIN_HOOKS = ("on_train_batch_start", "on_train_batch_end", "on_train_epoch_start", "on_train_epoch_end")
UPDATE_HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")


def steps_per_batch(config: Mapping[str, Any], gan: GAN, callbacks: Iterable[Callback], step: int) -> int:
    """Tell how many training steps Lightning may take for one batch, at most 10: as many as nobody looks in between.

    Lightning's loop spends 0.4 ms on a batch, whatever is in it, and the article's step takes 10 to 17. A callback with
    hooks on batches, epochs or updates that needs fewer than every step has ``every_n_steps``; 0: it does not matter.
    Large images, and those that are read as they are needed, come a step at a time.

    Args:
        config: As ``conf/train.yaml`` composes it, resolved.
        gan: A subclass of one's own, which may log or look at any time, gets every step.
        callbacks: Of the run.
        step: Where the run goes on from; 0 for a new one.
    """
    trainer, data, shape = config["trainer"], config["data"], config["model"].get("image_shape")
    values = math.prod(shape) * data.get("batch_size", LARGE) * gan.minibatches_per_step if shape else LARGE
    if values >= LARGE or not data.get("in_memory"):
        return 1
    if any(trainer.get(key) for key in IN_BATCHES):
        return 1
    if not type(gan).__module__.startswith("gan_lightning."):
        return 1
    looks = (
        getattr(callback, "every_n_steps", 1)
        for callback in callbacks
        if any(has(callback, hook) for hook in (*TRAIN_HOOKS, *UPDATE_HOOKS))
    )
    intervals = (trainer[key] for key in ("max_steps", "val_check_interval", "log_every_n_steps"))
    return math.gcd(AT_ONCE, step, *intervals, *looks)


def has(one: Callback | LightningModule, hook: str) -> bool:
    """Tell whether a callback or a module has its own in place of an empty hook."""
    empty = getattr(Callback if isinstance(one, Callback) else LightningModule, hook)
    return getattr(getattr(one, hook), "__func__", None) is not empty


def skip_empty_hooks() -> None:
    """Have Lightning leave out the hooks around backward passes and updates that nobody has, for 0.2 ms of a step.

    It else enters a profiler's context for each callback, and for the module, at each of them.
    """

    def skipping(every: Callable[..., Any], whose: Callable[[Any], Iterable[Any]]) -> Callable[..., Any]:
        @wraps(every)
        def call_if_any(trainer: Any, hook_name: str, *args: Any, **kwargs: Any) -> Any:
            if hook_name not in UPDATE_HOOKS or any(has(one, hook_name) for one in whose(trainer)):
                return every(trainer, hook_name, *args, **kwargs)
            return None

        return call_if_any

    if not hasattr(call._call_callback_hooks, "__wrapped__"):  # not yet
        call._call_callback_hooks = skipping(call._call_callback_hooks, lambda t: t.callbacks)
        call._call_lightning_module_hook = skipping(call._call_lightning_module_hook, lambda t: [t.lightning_module])


def compile_networks(gan: GAN) -> None:
    """Put both networks through ``torch.compile``, in place, so that weights keep their names.

    Raises:
        InputError: If there is no C++ compiler, which a CPU needs for that.
    """
    if not torch.accelerator.is_available() and not has_compiler():
        raise InputError("compile=true: needs a C++ compiler, such as g++, and this machine has none")
    for network in (gan.generator, gan.discriminator):
        network.compile(dynamic=False)


def has_compiler() -> bool:
    """Look for a C++ compiler."""
    return any(name and shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++", "cl"))


def keep_freed_memory(keep: bool = True) -> None:
    """Keep what a step frees for the next one, or, at ``keep=False``, little of it, if the allocator is glibc's.

    What is taken anew costs a page fault every 4 KiB, which is dear in a step; what is kept, in pieces that fit
    nothing else, makes the process large, which is dear in an evaluation: there, blocks of more than 4 MiB go back to
    the system.
    """
    glibc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(glibc, "mallopt"):
        glibc.mallopt(-3, 2**25 if keep else 2**22)  # M_MMAP_THRESHOLD: blocks larger than this are mapped one by one
        glibc.mallopt(-1, 2**30 if keep else 2**25)  # M_TRIM_THRESHOLD: this much may lie free
        if not keep:
            glibc.malloc_trim(0)


def look_for_gpus_once() -> None:
    """Hide GPUs from torch if there are none: Adam looks for them in each of its steps, for 0.05 ms on a CPU."""
    if not torch.cuda.is_available():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""

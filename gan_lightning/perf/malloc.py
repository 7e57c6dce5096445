"""Settings of glibc's memory allocator."""

import ctypes
import sys
from typing import Any

from pytorch_lightning import Callback

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from malloc.h


def keep_freed_memory() -> None:
    """Keep the memory that a step frees for the next step, if the allocator is glibc's.

    Otherwise every block newly allocated costs a page fault per 4 KiB, up to a third of a step.
    """
    _configure(mmap_threshold=2**25, trim_threshold=2**30)


def return_freed_memory() -> None:
    """Return most freed memory to the system again: an evaluation would make the process large otherwise.

    Blocks of up to 4 MiB are still kept; without them an evaluation of 10,000 images takes nearly three times as long.
    """
    glibc = _configure(mmap_threshold=2**22, trim_threshold=2**25)
    if glibc:
        glibc.malloc_trim(0)


def _configure(*, mmap_threshold: int, trim_threshold: int) -> Any:
    glibc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(glibc, "mallopt"):
        return None
    glibc.mallopt(M_MMAP_THRESHOLD, mmap_threshold)  # larger blocks are mapped one by one, and unmapped when freed
    glibc.mallopt(M_TRIM_THRESHOLD, trim_threshold)  # how much free memory may stay at the top of the heap
    return glibc


class KeepFreedMemory(Callback):
    """Keep freed memory during training."""

    def on_train_start(self, *_: Any) -> None:
        """Keep it from the first step on."""
        keep_freed_memory()

    def on_train_end(self, *_: Any) -> None:
        """Return it before the final evaluation."""
        return_freed_memory()

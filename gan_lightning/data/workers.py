"""The processes that read images for training."""

import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from gan_lightning.errors import InputError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainLoader(DataLoader[Any]):
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


def check_shared_memory(workers: int, batch: int) -> None:
    """Raise InputError if the system's shared memory is too small for the batches of bytes that workers prepare."""
    shared = Path("/dev/shm")
    if not shared.is_dir():
        return
    free, needed = shutil.disk_usage(shared).free, 2 * workers * batch  # torch prefetches two batches per worker
    if needed > free:
        raise InputError(
            f"data.num_workers={workers}: needs {needed / 1e6:.0f} MB of shared memory, and /dev/shm has "
            f"{free / 1e6:.0f} MB; use data.num_workers=0 or data.in_memory=true, or enlarge it, as by docker's "
            "--shm-size=1g"
        )

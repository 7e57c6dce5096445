"""The processes of a sweep's jobs, which end with the sweep."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

SWEEP = "GAN_LIGHTNING_SWEEP"  # environment variable: host and process ID of the command that runs a sweep
LEFT_OVER = 10.0  # seconds until what a command has left is killed
INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # exit codes


def run(
    command: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None, show: bool = True
) -> tuple[int, str]:
    """Run a command in a folder; return its exit code and the last line of its standard error, which is passed on.

    The code is 128 plus the signal's number if a signal ended the command, as in a shell. SIGINT and SIGTERM are passed
    on, each once: the command does not receive the terminal's signals itself.

    Args:
        command: The command and its arguments.
        cwd: The folder.
        environment: Variables besides those of this process.
        show: Whether to pass on its standard output.
    """
    last_line = ""
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=os.environ | (environment or {}),
        stdout=None if show else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:

        def read() -> None:
            nonlocal last_line
            assert process.stderr is not None
            for line in process.stderr:
                sys.stderr.write(line)
                if line.strip() and "HYDRA_FULL_ERROR" not in line:
                    last_line = line.strip()

        reader = threading.Thread(target=read, daemon=True)
        in_main_thread = threading.current_thread() is threading.main_thread()  # others cannot handle signals
        handlers = {
            number: signal.signal(number, lambda number, _: process.send_signal(number))
            for number in (signal.SIGINT, signal.SIGTERM)
            if in_main_thread
        }
        reader.start()
        try:
            code = process.wait()
        except BaseException:  # a launcher's own signal handler
            process.terminate()
            raise
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        reader.join(LEFT_OVER)
        if reader.is_alive():  # a process that the command has left, as another device's that waits for it
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            reader.join()
    return 128 - code if code < 0 else code, last_line


def mark_sweep() -> None:
    """Set the environment variable by which the jobs of a sweep, :func:`stop_with_sweep`, find this process."""
    os.environ[SWEEP] = f"{socket.gethostname()}:{os.getpid()}"


def stop_with_sweep() -> None:
    """In a job of a sweep: send this process SIGTERM as soon as its parent or, on this machine, the sweep has ended.

    Otherwise a job would go on after its sweep was killed, while the same command starts it again. Not on Windows,
    where no process has a new parent, and signals are other things.
    """
    host, _, pid = os.environ.get(SWEEP, "").rpartition(":")
    if not pid or sys.platform == "win32":
        return
    parent = os.getppid()

    def wait() -> None:
        while os.getppid() == parent and (host != socket.gethostname() or is_running(int(pid))):
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def is_running(pid: int) -> bool:
    """Return whether a process of this machine is running, and is not just waiting for its parent to read its code."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

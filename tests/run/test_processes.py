import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gan_lightning.run import processes


def test_run_returns_the_exit_code_and_the_last_line(capfd: pytest.CaptureFixture[str]) -> None:
    program = "import sys; print('out'); sys.stderr.write('first\\nlast\\n\\nset HYDRA_FULL_ERROR\\n'); sys.exit(7)"
    assert processes.run([sys.executable, "-c", program]) == (7, "last")
    assert capfd.readouterr().out == "out\n"
    assert processes.run([sys.executable, "-c", program], show=False) == (7, "last")
    assert capfd.readouterr().out == ""
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    assert processes.run([sys.executable, "-c", killed]) == (143, "")
    bytes_ = "import sys; sys.stderr.buffer.write(b'\\xff\\n'); sys.exit(1)"
    assert processes.run([sys.executable, "-c", bytes_]) == (1, "\N{REPLACEMENT CHARACTER}")
    variable = "import os, sys; sys.exit(int(os.environ['CODE']))"
    assert processes.run([sys.executable, "-c", variable], environment={"CODE": "5"}) == (5, "")


JOB = """
import pathlib, signal, sys, time
from gan_lightning.run.processes import stop_with_sweep
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path("stopped").touch(), sys.exit()))
stop_with_sweep()
pathlib.Path("started").touch()
time.sleep(60)
"""
SWEEP = """
import subprocess, sys
from gan_lightning.run.processes import mark_sweep
mark_sweep()
subprocess.run([sys.executable, *sys.argv[1:]])
"""
WORKER = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]])"


@pytest.mark.parametrize("between", [[], ["-c", WORKER]], ids=["basic", "launcher"])
def test_a_job_ends_with_its_sweep(between: list[str], tmp_path: Path) -> None:
    """Though the sweep is killed, and nobody reads its exit code."""
    sweep = subprocess.Popen([sys.executable, "-c", SWEEP, *between, "-c", JOB], cwd=tmp_path)
    wait_for(tmp_path / "started")
    os.kill(sweep.pid, signal.SIGKILL)
    wait_for(tmp_path / "stopped")
    sweep.wait()


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_only_jobs_end_with_their_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(processes.SWEEP, raising=False)
    before = processes.threading.active_count()
    processes.stop_with_sweep()
    assert processes.threading.active_count() == before
    assert processes.is_running(os.getpid())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    end = time.monotonic() + 30
    while processes.is_running(ended.pid):  # it stays a zombie until it is waited for
        assert time.monotonic() < end
    ended.wait()
    assert not processes.is_running(ended.pid)

"""How OpenMP's threads wait for each other, which has to be chosen before torch is loaded.

Threads that wait actively spin on their core: the quickest way on an idle machine, and several times slower where
another process needs that core. Threads that wait passively sleep. Results are bit-identical either way.
"""

import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")  # a user who sets one has chosen
BUSY = 0.25  # cores in use by other processes, above which waiting actively costs more than it saves


class CpuUse:
    """Measures how many cores other processes use while this one starts up; Linux only.

    Args:
        stat: The kernel's table of CPU times.
    """

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self.stat = stat
        self.start = self._times()

    def _times(self) -> tuple[float, float, float]:
        """Return the time now, the busy time of the cores that this process may use, and its own, in seconds."""
        if sys.platform != "linux" or not self.stat.exists():
            return 0.0, 0.0, 0.0
        ticks, cores = os.sysconf("SC_CLK_TCK"), {f"cpu{i}" for i in os.sched_getaffinity(0)}
        busy = 0
        for name, *fields in map(str.split, self.stat.read_text().splitlines()):
            if name in cores:
                user, nice, system, _, _, irq, softirq, *_ = map(int, fields)
                busy += user + nice + system + irq + softirq
        own = os.times()
        return time.monotonic(), busy / ticks, own.user + own.system + own.children_user + own.children_system

    def others(self, at_least: float = 0.3) -> float:
        """Return the average number of cores that other processes have used since this object was made.

        Args:
            at_least: Seconds that the measurement takes; waits for what is left of them.
        """
        if not any(self.start):
            return 0.0
        time.sleep(max(0.0, at_least - (time.monotonic() - self.start[0])))
        elapsed, busy, own = (now - then for now, then in zip(self._times(), self.start, strict=True))
        return max(0.0, (busy - own) / elapsed)


def choose_wait_policy(policy: str, use: CpuUse, *, ranks: int, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the value for OMP_WAIT_POLICY and why, in a sentence; empty strings to leave it to OpenMP.

    Args:
        policy: "active", "passive", or "auto": passive if other processes use the cores, or several ranks share them.
        use: Started earlier in this process.
        ranks: Processes of this run that share the CPU.
        environment: The user's own variables take precedence.
    """
    if any(name in environment for name in VARIABLES):
        return "", ""
    if policy != "auto":
        return policy.upper(), ""
    if ranks > 1:
        return "PASSIVE", f"{ranks} processes of this run share the CPU, so OpenMP's threads wait passively"
    cores = use.others()
    if cores > BUSY:
        return "PASSIVE", f"Other processes use {cores:.1f} CPU cores, so OpenMP's threads wait passively"
    return "", ""


def set_wait_policy(policy: str, use: CpuUse, *, trainer: Mapping[str, Any]) -> None:
    """Set OMP_WAIT_POLICY for this process and its workers, and log the choice if there is a reason for it.

    Args:
        policy: See :func:`choose_wait_policy`.
        use: Likewise.
        trainer: Arguments of Lightning's Trainer, which tell how many processes share the CPU.
    """
    devices = trainer.get("devices") if trainer.get("accelerator") == "cpu" else 1
    ranks = devices if isinstance(devices, int) else 1
    policy, reason = choose_wait_policy(policy, use, ranks=ranks, environment=os.environ)
    os.environ |= {"OMP_WAIT_POLICY": policy} if policy else {}
    if reason:
        log.info("%s (OMP_WAIT_POLICY=%s)", reason, policy)

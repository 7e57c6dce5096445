"""How OpenMP's threads wait, by what other processes do."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gan_lightning.perf.openmp import BUSY, VARIABLES, CpuUse, choose_wait_policy

linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc/stat")


class Fixed(CpuUse):
    """A measurement with a known result."""

    def __init__(self, cores: float) -> None:
        self.cores = cores

    def others(self, at_least: float = 0.3) -> float:
        return self.cores


@pytest.mark.parametrize(
    ("policy", "cores", "ranks", "expected", "reason"),
    [
        ("auto", 0.0, 1, "", ""),
        ("auto", BUSY, 1, "", ""),
        ("auto", 1.5, 1, "PASSIVE", r"1\.5 CPU cores"),
        ("auto", 0.0, 2, "PASSIVE", "2 processes"),
        ("active", 1.5, 2, "ACTIVE", ""),
        ("passive", 0.0, 1, "PASSIVE", ""),
    ],
)
def test_wait_policy(policy: str, cores: float, ranks: int, expected: str, reason: str) -> None:
    chosen, why = choose_wait_policy(policy, Fixed(cores), ranks=ranks, environment={"HOME": "/"})
    assert chosen == expected
    assert re.search(reason, why)
    assert bool(why) == bool(reason)


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("policy", ["auto", "active", "passive"])
def test_the_users_variables_take_precedence(variable: str, policy: str) -> None:
    assert choose_wait_policy(policy, Fixed(1.5), ranks=2, environment={variable: "1"}) == ("", "")


class FakeMachine:
    """A table of CPU times, a clock and a process that can use three cores of four.

    Args:
        stat: The file that takes the place of /proc/stat.
    """

    def __init__(self, stat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stat, self.now, self.own, self.slept = stat, 100.0, 1.0, []
        self.clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.slept.append)
        monkeypatch.setattr("gan_lightning.perf.openmp.time", self.clock)
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 3})
        monkeypatch.setattr(
            "os.times", lambda: SimpleNamespace(user=self.own, system=0.0, children_user=0.0, children_system=0.0)
        )

    def write(self, *busy: float) -> None:
        """Write a table, with the seconds that each core has been busy."""
        ticks = os.sysconf("SC_CLK_TCK")
        rows = [f"cpu{i} {int(seconds * ticks)} 0 0 123456 99 0 0 0 0 0" for i, seconds in enumerate(busy)]
        self.stat.write_text("\n".join(["cpu  9 9 9 9 9 9 9 0 0 0", *rows, "intr 1 2 3", "ctxt 1"]) + "\n")


@linux
def test_others_are_what_is_busy_but_not_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = FakeMachine(tmp_path / "stat", monkeypatch)
    machine.write(10, 20, 30, 40)
    use = CpuUse(machine.stat)
    machine.now, machine.own = 102.0, 2.0
    machine.write(12, 20, 32, 41)  # the third core is not ours
    assert use.others(at_least=0.5) == pytest.approx((2 + 1 - 1) / 2)
    machine.own = 9.0  # measured less precisely than the table
    assert use.others(at_least=3.0) == 0
    assert machine.slept == [0.0, pytest.approx(1.0)]


@linux
def test_all_kinds_of_work_are_busy_and_waiting_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, ticks = FakeMachine(tmp_path / "stat", monkeypatch), os.sysconf("SC_CLK_TCK")
    machine.write(0)
    use = CpuUse(machine.stat)
    machine.now += 10
    fields = [ticks, ticks, ticks, 50 * ticks, 50 * ticks, ticks, ticks, 50 * ticks, 50 * ticks, 50 * ticks]
    machine.stat.write_text(f"cpu0 {' '.join(map(str, fields))}\n")
    assert use.others() == pytest.approx(0.5)


def test_without_a_table_nothing_is_known(tmp_path: Path) -> None:
    assert CpuUse(tmp_path / "none").others() == 0


@linux
def test_a_busy_process_is_noticed() -> None:
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        use = CpuUse()
        assert use.others(at_least=1.0) >= 0.5
        assert choose_wait_policy("auto", use, ranks=1, environment={})[0] == "PASSIVE"
    finally:
        child.kill()
        child.wait()

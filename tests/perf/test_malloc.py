import sys

import pytest

from tests.helpers import ROOT, call

SCRIPT = """
import resource, torch
from pathlib import Path
from gan_lightning.perf.malloc import keep_freed_memory, return_freed_memory

def steps(n):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n): [torch.ones(2_000_000) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident(): return int(Path("/proc/self/statm").read_text().split()[1])

return_freed_memory(); steps(20); print(steps(20))
keep_freed_memory(); steps(20); print(steps(20))
print(resident()); return_freed_memory(); print(resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc's allocator")
def test_freed_memory_is_kept_for_the_next_step_until_it_is_returned() -> None:
    returned, kept, before, after = map(int, call("-c", SCRIPT, cwd=ROOT).stdout.split())  # all in pages
    assert kept < returned / 10
    assert after < before - 4 * 2_000_000 * 4 / 4096 / 2

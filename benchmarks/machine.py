"""What a figure was measured on."""

import platform
from pathlib import Path


def processor() -> str:
    """Name the processor."""
    told = Path("/proc/cpuinfo")  # Linux alone has it
    lines = told.read_text().splitlines() if told.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()

"""Small files that several processes read and write."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON object's file; {} if there is none or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object's file atomically."""
    write(path, json.dumps(content, indent=2))


def write(path: Path, text: str) -> None:
    """Write a file atomically: its former content is there until the new one is complete."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def acquire(lock: FileLock, timeout: float = 0) -> bool:
    """Acquire a lock within some seconds, and return whether that succeeded; true on a file system without locks."""
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        return False
    except (OSError, NotImplementedError):
        pass
    return True

"""Errors caused by invalid user input, and the parts of their messages."""

from collections.abc import Sequence
from typing import Any


class InputError(ValueError):
    """An invalid value: one line that names the key, the value and what is allowed.

    DataLoader workers re-raise an exception with its traceback in front of the message; only the message is kept.
    """

    def __init__(self, line: str) -> None:
        super().__init__(line.rpartition("InputError: ")[2].strip())


def as_typed(value: Any) -> str:
    """Return a value as a user types it, at most 200 characters of it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    text = f"[{','.join(map(as_typed, value))}]" if is_list else str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, at most 500 characters long."""
    return " ".join(str(error).split())[:500] or type(error).__name__

"""Errors caused by invalid user input, and the parts of their messages."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    """Return an error's message on one line, at most 250 characters long; its class says more than a bare key."""
    line = " ".join(str(error).split())
    line = f"{type(error).__name__}: {line}".removesuffix(": ") if isinstance(error, LookupError) or not line else line
    return line if len(line) <= 250 else f"{line[:249]}…"


@contextmanager
def third_party_errors(subject: str, *, key: str = "") -> Iterator[None]:
    """Raise InputError ``subject: message`` for any exception of third-party code within the context.

    With a key of the config, a message that names an argument, as in ``size=0: must be at least 1``, follows the key.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a library or a user's class can fail in any way
        line = one_line(error)
        name, equals, _ = line.partition("=")
        named = key and equals and name.isidentifier()
        raise InputError(f"{key}.{line}" if named else f"{subject}: {line}") from error


def file_error(error: BaseException, where: str = "a file") -> str | None:
    """Return an error of the file system as one line, with ``where`` if it names no file; None for other errors."""
    no_space = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # without the file's name
    if not isinstance(error, OSError) or not error.strerror or not (error.filename or no_space):
        return None
    return f"{error.filename or where}: {error.strerror}"


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a device, or the computer, has no more memory."""
    words = ("out of memory", "can't allocate memory", "not enough memory")  # of CUDA, and of two allocators of torch
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(w in str(error).lower() for w in words)
    )

"""What goes wrong by the user's hand."""

from pathlib import Path


class InputError(ValueError):
    """A mistake in what was given: one line that names the key, the value and what is allowed.

    A process that loads data hands it on with its traceback before the line, which is left out.
    """

    def __init__(self, line: str) -> None:
        super().__init__(line.rpartition("InputError: ")[2].strip())


def refuse_used(folder: Path, given: str) -> None:
    """Keep a run from being written over.

    Args:
        folder: Where a new run is to go.
        given: The key and the value that say so.

    Raises:
        InputError: If it holds a run.
    """
    if (folder / "checkpoints").exists() or (folder / "metrics.json").exists():
        raise InputError(f"{given}: holds a run, which checkpoint= goes on with; allowed: a new folder")

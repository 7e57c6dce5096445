"""Errors caused by invalid user input."""


class InputError(ValueError):
    """An invalid value: one line that names the key, the value and what is allowed.

    DataLoader workers re-raise an exception with its traceback in front of the message; only the message is kept.
    """

    def __init__(self, line: str) -> None:
        super().__init__(line.rpartition("InputError: ")[2].strip())

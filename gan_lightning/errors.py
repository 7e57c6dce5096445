"""What goes wrong by the user's hand."""


class InputError(ValueError):
    """A mistake in what was given: one line that names the key, the value and what is allowed."""

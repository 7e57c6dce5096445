"""The end of a run by time."""

from typing import Any

from pytorch_lightning.callbacks import Timer


class TimeLimit(Timer):
    """Lightning's timer, of which a resumed run has the whole duration again: else it would end at once."""

    state_key = "Timer"  # as in earlier checkpoints

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the time of training so far, and add it to the duration."""
        super().load_state_dict(state_dict)
        if self._duration is not None:
            self._duration += self._offset

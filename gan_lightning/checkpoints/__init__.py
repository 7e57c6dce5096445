"""Checkpoint files: writing and reading them, what their configs may name, and those of earlier versions."""

"""Support for the commands: composing, validating and building a config, training runs, checkpoints and sweeps."""

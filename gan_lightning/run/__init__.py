"""What serves the command line: composing, validating and building a config, checkpoints, reports and sweeps."""

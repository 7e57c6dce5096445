"""Train a GAN: ``python -m gan_lightning.train [group=choice] [key=value] [-m]``."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from gan_lightning.run.cli import command
from gan_lightning.run.config import typed_overrides


@command("train")
def main(config: DictConfig) -> None:
    """Train in the run's folder; with ``checkpoint=PATH``, resume that run."""
    from gan_lightning.run.training import train  # imports torch, which no mistake in the config should wait for

    train(config, Path(HydraConfig.get().runtime.output_dir), typed_overrides())


if __name__ == "__main__":
    main()

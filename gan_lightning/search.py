"""Search for hyperparameters with Optuna: ``python -m gan_lightning.search search=recipe [key=value] [key=range]``."""

from omegaconf import DictConfig

from gan_lightning.run.cli import command


@command("search")
def main(config: DictConfig) -> None:
    """Run trials, each a training run in a folder of its own, until the study has as many as asked for."""
    from gan_lightning.run.search import search  # imports optuna

    search(config)


if __name__ == "__main__":
    main()

"""Measure: ``python -m gan_lightning.evaluate checkpoint=PATH [metrics=...] [out=FILE.json]``."""

from pathlib import Path

from omegaconf import DictConfig

from gan_lightning.config import make_metrics
from gan_lightning.doors import door
from gan_lightning.errors import InputError


@door("evaluate")
def main(config: DictConfig) -> None:
    """Load, measure, print, write."""
    if config.out and Path(config.out).suffix != ".json":
        raise InputError(f"out={config.out}: must end in .json")

    from gan_lightning.checkpoint import load, load_data, pick_device, read
    from gan_lightning.scoring import evaluate, flatten, save, table

    gan = load(config.checkpoint)
    run = read(config.checkpoint)["hyper_parameters"]["config"]
    if config.features is None:
        config.features = run["features"]
    data = load_data(config.checkpoint, root=config.data.root)
    data.prepare_data()
    data.setup()
    figures = evaluate(
        gan.to(pick_device(config.device)),
        data,
        make_metrics(config),
        num_images=config.num_images,
        seed=config.seed,
    )
    print(table(figures, run["reference"], config.num_images))
    if config.out:
        Path(config.out).absolute().parent.mkdir(parents=True, exist_ok=True)
        save(flatten(figures) | {"seed": config.seed}, Path(config.out))


if __name__ == "__main__":
    main()

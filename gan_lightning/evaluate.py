"""Evaluate a checkpoint: ``python -m gan_lightning.evaluate checkpoint=PATH [out=FILE.json]``.

The metrics are those of its run, with single ones changed, as by ``metrics.kid=null``, or a set: ``metrics=default``.
"""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from gan_lightning.errors import InputError, out_of_memory
from gan_lightning.run.cli import command


@command("evaluate")
def main(config: DictConfig) -> None:
    """Compute the metrics of a GAN on validation and test images, and print and write them."""
    if config.out and Path(config.out).suffix != ".json":
        raise InputError(f"out={config.out}: must end in .json")

    from gan_lightning.callbacks.final_evaluation import evaluate_with_progress, save_metrics
    from gan_lightning.run import build, memory
    from gan_lightning.run.checkpoint import Checkpoint
    from gan_lightning.run.config import resolve_paths, trusted_names, typed_overrides

    checkpoint = Checkpoint(config.checkpoint, trusted_names(config.trust))
    memory.check_samples("num_images", config.num_images, checkpoint.config)
    keys = [typed.lstrip("+").partition("=")[0] for typed in typed_overrides()]
    if not any(key == "metrics" or key.startswith("features") for key in keys):
        names = {key.split(".")[1] for key in keys if key.startswith("metrics.")}
        config.metrics = (checkpoint.config["metrics"] or {}) | {name: config.metrics[name] for name in names}
    former = {key: checkpoint.config.get(key) for key in ("model", "data", "features")}
    typed = {"features": config.features} if any(key.startswith("features") for key in keys) else {}
    used = resolve_paths(OmegaConf.create(former | {"metrics": config.metrics} | typed))
    metrics, gan = build.metrics(used), checkpoint.gan().to(build.device(config.device))
    data = checkpoint.data(root=config.data.root, on_error=config.data.on_error)
    try:
        values, table = evaluate_with_progress(gan, data, metrics, num_images=config.num_images, seed=config.seed)
    except Exception as error:  # of a metric from outside of this package
        if out_of_memory(error) or not (line := build.user_part_error(used, error)):
            raise
        raise InputError(line) from error
    print(table)
    if config.out:
        save_metrics(values | {"seed": config.seed}, Path(config.out))


if __name__ == "__main__":
    main()

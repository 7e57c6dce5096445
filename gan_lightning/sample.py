"""Sample images: ``python -m gan_lightning.sample checkpoint=PATH num_images=N seed=S out=FILE``."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from gan_lightning.errors import InputError, as_typed
from gan_lightning.run.cli import command


@command("sample")
def main(config: DictConfig) -> None:
    """Write samples, samples beside their nearest training images (Figure 2), or interpolations in z (Figure 3)."""
    out = Path(config.out)
    if out.suffix not in ("", ".png", ".npz"):
        raise InputError(
            f"out={out}: must end in .png (a grid) or .npz (an array), or have no file extension (a folder)"
        )
    if out.suffix == "" and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise InputError(f"out={out}: exists; without a file extension it must be a new or empty folder")
    if config.label is not None and config.labels is not None:
        raise InputError(f"label={config.label}: labels is set, too; use one of them")
    if config.labels is not None and (not OmegaConf.is_list(config.labels) or not config.labels):
        raise InputError(f"labels={as_typed(config.labels)}: must be a list, as in [0,1,2]")
    if config.show != "samples" and out.suffix != ".png":
        raise InputError(f"out={out}: show={config.show} makes one picture, so out must end in .png")

    import torch

    from gan_lightning import sampling, visualize
    from gan_lightning.data.images import to_pixels
    from gan_lightning.run import build, memory
    from gan_lightning.run.checkpoint import Checkpoint
    from gan_lightning.run.config import trusted_names

    checkpoint = Checkpoint(config.checkpoint, trusted_names(config.trust))
    if out.suffix:  # a folder's images are written as they are generated
        per_line = sampling.INTERPOLATION_STEPS if config.show == "interpolation" else 1
        memory.check_images("num_images", config.num_images, checkpoint.config, images=per_line)
    gan = checkpoint.gan().to(build.device(config.device))
    labels = [config.label] if config.label is not None else config.labels
    if labels is not None and not all(type(label) is int and 0 <= label < gan.num_classes for label in labels):
        allowed = f"0 to {gan.num_classes - 1}" if gan.num_classes else "null, as the model was trained without classes"
        key = "labels" if config.label is None else "label"
        raise InputError(f"{key}={as_typed(config[key])}: must be {allowed}")
    images = sampling.sample(gan, config.num_images, seed=config.seed, labels=labels)
    is_of_points = visualize.are_points(next(sampling.sample(gan, 1, seed=0, batch_size=1)))
    if is_of_points:
        check_for_points(config.show, out)
    batches = (batch.cpu() if is_of_points else to_pixels(batch).cpu() for batch in images)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    if config.show == "nearest":
        train = checkpoint.data(root=config.data.root, on_error=config.data.on_error).train
        visualize.save(visualize.nearest_pairs(torch.cat(list(batches)), train.batches()), out)
    elif config.show == "interpolation":
        lines = to_pixels(sampling.interpolate(gan, config.num_images, seed=config.seed, labels=labels))
        visualize.save(visualize.grid(lines, sampling.INTERPOLATION_STEPS), out)
    elif is_of_points and out.suffix == ".png":
        heat, label = sampling.discriminator_map(gan)
        visualize.save(visualize.scatter(torch.cat(list(batches)), heat=heat, heat_label=label), out)
    else:
        visualize.write_images(batches, out, rows=len(labels or ()) or gan.num_classes)
    print(out)


def check_for_points(show: str, out: Path) -> None:
    """Raise InputError for what samples that are points of the plane cannot be."""
    if show != "samples":
        raise InputError(f"show={show}: shows images, and the model generates points; use show=samples")
    if out.suffix == "":
        raise InputError(f"out={out}: must end in .png (a plot) or .npz (an array), as the model generates points")


if __name__ == "__main__":
    main()

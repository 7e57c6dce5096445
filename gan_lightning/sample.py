"""Sample images: ``python -m gan_lightning.sample checkpoint=PATH num_images=N seed=S out=FILE``."""

from pathlib import Path

from omegaconf import DictConfig

from gan_lightning.errors import InputError
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
    batches = (to_pixels(images).cpu() for images in sampling.sample(gan, config.num_images, seed=config.seed))
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    if config.show == "nearest":
        train = checkpoint.data(root=config.data.root).train
        visualize.save(visualize.nearest_pairs(torch.cat(list(batches)), train.batches()), out)
    elif config.show == "interpolation":
        lines = to_pixels(sampling.interpolate(gan, config.num_images, seed=config.seed))
        visualize.save(visualize.grid(lines, sampling.INTERPOLATION_STEPS), out)
    else:
        visualize.write_images(batches, out)
    print(out)


if __name__ == "__main__":
    main()

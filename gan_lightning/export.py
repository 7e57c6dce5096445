"""Export a GAN: ``python -m gan_lightning.export checkpoint=PATH out=FILE.onnx``, ``FILE.html`` or ``FOLDER``."""

import logging
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from gan_lightning.errors import InputError, third_party_errors
from gan_lightning.run.cli import command

if TYPE_CHECKING:
    from gan_lightning.gan import GAN
    from gan_lightning.pages.model_page import Data
    from gan_lightning.run.checkpoint import Checkpoint


@command("export")
def main(config: DictConfig) -> None:
    """Write the generator, or its EMA, as ONNX, or the GAN as an HTML page or a folder for the Hugging Face hub."""
    out = Path(config.out)
    if out.suffix not in ("", ".onnx", ".html"):
        raise InputError(
            f"out={out}: must end in .onnx (the generator) or .html (a page to play with), or have no file extension "
            "(a folder for the Hugging Face hub)"
        )
    if out.suffix == ".onnx" and not find_spec("onnxscript"):
        raise InputError("export: needs onnx and onnxscript; pip install 'gan-lightning[export]'")

    from gan_lightning.run.checkpoint import Checkpoint
    from gan_lightning.run.config import trusted_names

    checkpoint = Checkpoint(config.checkpoint, trusted_names(config.trust))
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".html":
        write_page(checkpoint.gan(), out, checkpoint, config)
        return
    if out.suffix == ".onnx":
        write_onnx(checkpoint.gan(), out)
    else:
        write_folder(checkpoint, out)
    print(out)


def write_onnx(gan: "GAN", out: Path) -> None:
    """Write the generator: ``latents`` (N, latent_dim) to ``images`` (N, C, H, W) in [-1, 1].

    The latents are drawn from the prior; ``latent_scale`` is part of the graph. A conditional generator has a second
    input: ``labels`` (N,), int64.
    """
    import torch

    number = torch.export.Dim("N")
    inputs = (gan.fixed_latents[:2],) if gan.fixed_labels is None else (gan.fixed_latents[:2], gan.fixed_labels[:2])
    logging.disable(logging.WARNING)  # the exporter logs every pass over the graph
    with third_party_errors("export: the generator cannot be written as ONNX"):
        torch.onnx.export(
            gan,
            inputs,
            out,
            input_names=["latents", "labels"][: len(inputs)],
            output_names=["images"],
            dynamic_shapes=tuple({0: number} for _ in inputs),
            external_data=False,
            verbose=False,
        )


def write_page(gan: "GAN", out: Path, checkpoint: "Checkpoint", config: DictConfig) -> None:
    """Write the GAN as a page; print its size and its error."""
    from gan_lightning.pages import model_page

    with third_party_errors(f"out={out}: the page cannot run the networks"):
        error = model_page.write(
            gan,
            out,
            subject=f"trained on {dataset_name(checkpoint)} for {checkpoint.step:,} steps",
            weights=config.weights,
            discriminator=config.discriminator,
            data=images(checkpoint, config),
        )
    print(f"{out} ({out.stat().st_size / 1e6:.1f} MB; {error})")


def dataset_name(checkpoint: "Checkpoint") -> str:
    """Return the name of a checkpoint's data set: that of its class, or of the folder of the user's pictures."""
    data = checkpoint.resolved().data
    name = str(OmegaConf.select(data, "dataset._target_") or "own data").rpartition(".")[2]
    return Path(data.root).name if name == "Folder" else name


def images(checkpoint: "Checkpoint", config: DictConfig) -> "Data | None":
    """Return the images of the run; None, and print why, if they are missing and ``data.root`` is not given."""
    from gan_lightning.data.datamodule import ImageDataModule
    from gan_lightning.pages.model_page import Data

    try:
        data = checkpoint.data(root=config.data.root, on_error=config.data.on_error)
        if isinstance(data, ImageDataModule):
            return Data(data.train, data.test)
        reason = "data is not an ImageDataModule"
    except InputError as error:
        if config.data.root:
            raise
        reason = str(error)
    print(f"The page has no real images: {reason}", file=sys.stderr)
    return None


def write_folder(checkpoint: "Checkpoint", out: Path) -> None:
    """Write a folder in the layout of the Hugging Face hub; see :mod:`gan_lightning.checkpoints.pretrained`."""
    from gan_lightning.checkpoints.pretrained import save_pretrained

    run = checkpoint.path.absolute().parent.parent if checkpoint.path.name == "last.ckpt" else None
    save_pretrained(checkpoint.content, out, run=run)


if __name__ == "__main__":
    main()

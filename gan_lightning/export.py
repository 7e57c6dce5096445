"""Export the generator: ``python -m gan_lightning.export checkpoint=PATH out=FILE.onnx``."""

import logging
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig

from gan_lightning.errors import InputError, third_party_errors
from gan_lightning.run.cli import command


@command("export")
def main(config: DictConfig) -> None:
    """Write the generator, or its EMA, as ONNX: ``latents`` (N, latent_dim) to ``images`` (N, C, H, W) in [-1, 1].

    The latents are drawn from the prior; ``latent_scale`` is part of the graph. A conditional generator has a second
    input: ``labels`` (N,), int64.
    """
    out = Path(config.out)
    if not out.suffix:
        export_model(config, out)
        return
    if out.suffix != ".onnx":
        raise InputError(f"out={out}: must end in .onnx, or have no file extension (a folder for the Hugging Face hub)")
    if not find_spec("onnxscript"):
        raise InputError("export: needs onnx and onnxscript; pip install 'gan-lightning[export]'")

    import torch

    from gan_lightning.run.checkpoint import Checkpoint
    from gan_lightning.run.config import trusted_names

    gan = Checkpoint(config.checkpoint, trusted_names(config.trust)).gan()
    number = torch.export.Dim("N")
    inputs = (gan.fixed_latents[:2],) if gan.fixed_labels is None else (gan.fixed_latents[:2], gan.fixed_labels[:2])
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
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
    print(out)


def export_model(config: DictConfig, out: Path) -> None:
    """Write a folder in the layout of the Hugging Face hub; see :mod:`gan_lightning.checkpoints.pretrained`."""
    from gan_lightning.checkpoints.pretrained import save_pretrained
    from gan_lightning.run.checkpoint import Checkpoint
    from gan_lightning.run.config import trusted_names

    checkpoint = Checkpoint(config.checkpoint, trusted_names(config.trust))
    run = checkpoint.path.absolute().parent.parent if checkpoint.path.name == "last.ckpt" else None
    save_pretrained(checkpoint.content, out, run=run)
    print(out)


if __name__ == "__main__":
    main()

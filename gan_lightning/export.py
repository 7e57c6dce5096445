"""Export the generator: ``python -m gan_lightning.export checkpoint=PATH out=FILE.onnx``."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from gan_lightning.doors import door
from gan_lightning.errors import InputError


@door("export")
def main(config: DictConfig) -> None:
    """Load, and write what the GAN shows as ONNX: ``latents`` (N, latent_dim) to ``images`` (N, C, H, W) in [-1, 1].

    That is the averaged generator if there is one; its ``latent_scale`` is part of what is written.
    """
    out = Path(config.out)
    if out.suffix != ".onnx":
        raise InputError(f"out={out}: must end in .onnx")
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError("export needs onnx and onnxscript: pip install 'gan-lightning[export]'") from error

    import torch

    from gan_lightning.checkpoint import load

    gan = load(config.checkpoint)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.WARNING)  # the exporter tells of every pass over the graph
    torch.onnx.export(
        gan,
        (gan.fixed_latents[:2],),
        out,
        input_names=["latents"],
        output_names=["images"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    print(out)


if __name__ == "__main__":
    main()

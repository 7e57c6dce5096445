"""Optional speed-ups of training steps, which change results by rounding at most.

Torch is imported only when :func:`apply` is called, since :mod:`gan_lightning.perf.openmp` has to run before that.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from gan_lightning.gan import GAN


def apply(gan: "GAN", trainer: "Trainer", *, cpu_tuning: bool, compile: bool, cuda_graphs: bool) -> None:
    """Make the training steps of a GAN faster, in place.

    Args:
        gan: The GAN, before training.
        trainer: Its trainer.
        cpu_tuning: Keep freed memory for the next step and, on two threads, split linear layers between them.
        compile: Compile both networks with ``torch.compile``.
        cuda_graphs: Launch each step's work on a GPU as CUDA graphs.

    Raises:
        InputError: If the machine cannot compile, or the run is not on a CUDA GPU as graphs need.
    """
    from gan_lightning.errors import InputError
    from gan_lightning.perf.compile import compile_networks
    from gan_lightning.perf.cuda_graphs import graph_steps
    from gan_lightning.perf.malloc import KeepFreedMemory
    from gan_lightning.perf.split_linear import split_linear_layers

    if cpu_tuning:
        trainer.callbacks.append(KeepFreedMemory())  # type: ignore[attr-defined]
        if not compile:
            split_linear_layers(gan)
    if compile:
        compile_networks(gan)
    if cuda_graphs:
        if trainer.strategy.root_device.type != "cuda":
            raise InputError("cuda_graphs=true: needs a CUDA GPU, and this run has none; use cuda_graphs=false")
        graph_steps(gan)

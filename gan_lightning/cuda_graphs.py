"""Training steps as CUDA graphs: what a GPU does is recorded once, and then launched as a whole."""

import warnings
from contextlib import suppress

import torch
from torch import Tensor

from gan_lightning.errors import InputError
from gan_lightning.gan import GAN

Segment = tuple[torch.cuda.CUDAGraph, int, list[Tensor | None]]  # up to an update: the work, the player, its gradient
Recording = tuple[Tensor, list[Segment], torch.cuda.CUDAGraph, dict[str, Tensor]]  # images, step, its rest, its result


def graph_steps(gan: GAN) -> "GraphedStep":
    """Put a :class:`GraphedStep` in the place of a GAN's training step."""
    gan.iteration = GraphedStep(gan)  # type: ignore[method-assign]
    return gan.iteration


class GraphedStep:
    """A GAN's training step of which all but the updates is launched as CUDA graphs.

    For networks as small as the article's, a GPU waits for the CPU to launch one kernel after another, most of the
    time. The updates (clipping, optimizers, schedulers, average) stay outside, so their values may change with the
    step. Those of the loss and the penalty may not; steps that a lazy penalty leaves out are recorded apart.

    Args:
        gan: Trained once, on a CUDA device, in one process.
    """

    def __init__(self, gan: GAN) -> None:
        self.gan, self.step, self.update = gan, gan.iteration, gan.update
        self.recordings: dict[bool, Recording | None] = {}
        self.gamma = getattr(gan.penalty, "gamma", None)

    def __call__(self, real: Tensor) -> dict[str, Tensor]:
        """Take the step; see :meth:`GAN.iteration`. Of each kind, the first is taken as it is, to warm up.

        Raises:
            InputError: If the penalty's γ has changed, or a part does what cannot be recorded, such as to wait for the
                device.
        """
        if getattr(self.gan.penalty, "gamma", None) != self.gamma:
            raise InputError("cuda_graphs=true: the penalty's gamma changes with the step; allowed: false")
        penalised = self.gan.global_step % getattr(self.gan.penalty, "every_n_steps", 1) == 0
        if penalised not in self.recordings:
            self.leave_default_stream()
            self.recordings[penalised] = None
            return self.step(real)
        recording = self.recordings[penalised]
        if recording is None:
            recording = self.recordings[penalised] = self.record(real)
        else:
            self.replay(real, recording)
        return recording[-1]

    def leave_default_stream(self) -> None:
        """Go over to a stream on which graphs can be recorded."""
        if torch.cuda.current_stream() == torch.cuda.default_stream():
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            torch.cuda.set_stream(stream)

    def record(self, real: Tensor) -> Recording:
        """Take the step, and record it on the way."""
        kept, pool = real.clone(), torch.cuda.graph_pool_handle()
        segments: list[Segment] = []
        graph = torch.cuda.CUDAGraph()

        def update(player: int) -> None:
            nonlocal graph
            graph.capture_end()
            segments.append((graph, player, [p.grad for p in self.parameters(player)]))
            graph.replay()
            self.update(player)
            graph = torch.cuda.CUDAGraph()
            graph.capture_begin(pool)

        torch.cuda.synchronize()
        self.gan.update = update  # type: ignore[method-assign]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*CUDA Graph is empty.*")  # where no work lies between two updates
            try:
                graph.capture_begin(pool)
                result = self.step(kept)
                graph.capture_end()
            except BaseException as error:
                with suppress(RuntimeError):
                    graph.capture_end()
                if isinstance(error, RuntimeError):
                    raise InputError(f"cuda_graphs=true: {str(error).splitlines()[0]}; allowed: false") from error
                raise
            finally:
                del self.gan.update
        graph.replay()
        return kept, segments, graph, result

    def replay(self, real: Tensor, recording: Recording) -> None:
        """Take the step from a recording."""
        kept, segments, rest, _ = recording
        kept.copy_(real)
        for graph, player, gradients in segments:
            graph.replay()
            for parameter, gradient in zip(self.parameters(player), gradients, strict=True):
                parameter.grad = gradient
            self.update(player)
        rest.replay()

    def parameters(self, player: int) -> list[Tensor]:
        """List a player's parameters; see :meth:`GAN.update`."""
        return list((self.gan.generator, self.gan.discriminator)[player].parameters())

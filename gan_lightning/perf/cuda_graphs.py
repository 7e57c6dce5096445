"""Training steps as CUDA graphs: the GPU's work is recorded once, and then launched as a whole."""

import warnings
from contextlib import suppress

import torch
from torch import Tensor, nn

from gan_lightning.errors import InputError
from gan_lightning.gan import GAN, Outputs

Segment = tuple[torch.cuda.CUDAGraph, nn.Module, list[Tensor | None]]  # work until an update, network, gradient
Recording = tuple[list[Tensor], list[Segment], torch.cuda.CUDAGraph, Outputs]  # inputs, segments, rest, outputs


def graph_steps(gan: GAN) -> "GraphedStep":
    """Replace a GAN's step by a :class:`GraphedStep`, and return it."""
    gan.step = GraphedStep(gan)  # type: ignore[method-assign]
    return gan.step


class GraphedStep:
    """A GAN's step whose work, except for the updates, is launched as CUDA graphs.

    With networks as small as the article's, a GPU mostly waits for the CPU to launch one kernel after another. The
    updates (clipping, optimizers, schedulers, EMA) stay outside the graphs, so their values may change with the step.
    Values in the loss and the penalty may not; steps with and without a lazy penalty are recorded separately.

    Args:
        gan: To be trained in a single run, by one process, on one CUDA device.
    """

    def __init__(self, gan: GAN) -> None:
        self.gan, self.step, self.apply_gradient = gan, gan.step, gan.apply_gradient
        self.recordings: dict[bool, Recording | None] = {}
        self.gamma = getattr(gan.penalty, "gamma", None)

    def __call__(self, images: Tensor, labels: Tensor) -> Outputs:
        """Run the step; see :meth:`GAN.step`. The first step of each kind runs without a graph, as a warm-up.

        Raises:
            InputError: If the penalty's γ has changed, or something in the step cannot be recorded, such as waiting for
                the device.
        """
        if getattr(self.gan.penalty, "gamma", None) != self.gamma:
            raise InputError("cuda_graphs=true: the penalty's gamma changes with the step; use cuda_graphs=false")
        penalized = self.gan.penalty_is_due()
        if penalized not in self.recordings:
            self.leave_default_stream()
            self.recordings[penalized] = None
            return self.step(images, labels)
        recording = self.recordings[penalized]
        if recording is None:
            recording = self.recordings[penalized] = self.record(images, labels)
        else:
            self.replay(recording, images, labels)
        return recording[-1]

    def leave_default_stream(self) -> None:
        """Switch to a stream on which graphs can be recorded."""
        if torch.cuda.current_stream() == torch.cuda.default_stream():
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            torch.cuda.set_stream(stream)

    def record(self, *inputs: Tensor) -> Recording:
        """Run the step and record it."""
        static_inputs, pool = [value.clone() for value in inputs], torch.cuda.graph_pool_handle()
        segments: list[Segment] = []
        graph = torch.cuda.CUDAGraph()

        def apply_gradient(network: nn.Module) -> None:
            nonlocal graph
            graph.capture_end()
            segments.append((graph, network, [p.grad for p in network.parameters()]))
            graph.replay()
            self.apply_gradient(network)
            graph = torch.cuda.CUDAGraph()
            graph.capture_begin(pool)

        torch.cuda.synchronize()
        self.gan.apply_gradient = apply_gradient  # type: ignore[method-assign]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*CUDA Graph is empty.*")  # no work between two updates
            try:
                graph.capture_begin(pool)
                outputs = self.step(*static_inputs)
                graph.capture_end()
            except BaseException as error:
                with suppress(RuntimeError):
                    graph.capture_end()
                if isinstance(error, RuntimeError):
                    raise InputError(
                        f"cuda_graphs=true: {str(error).splitlines()[0]}; use cuda_graphs=false"
                    ) from error
                raise
            finally:
                del self.gan.apply_gradient
        graph.replay()
        return static_inputs, segments, graph, outputs

    def replay(self, recording: Recording, *inputs: Tensor) -> None:
        """Run the step from a recording."""
        static_inputs, segments, rest, _ = recording
        for static, value in zip(static_inputs, inputs, strict=True):
            static.copy_(value)
        for graph, network, gradients in segments:
            graph.replay()
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.grad = gradient
            self.apply_gradient(network)
        rest.replay()

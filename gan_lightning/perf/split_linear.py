"""Linear layers whose weights stay with the thread that updates them."""

from typing import Any

import torch
from torch import Tensor, nn

MAX_BATCH = 128  # with more images, weights are less of the work, and splitting gains nothing


def split_linear_layers(network: nn.Module) -> None:
    """Make a :class:`SplitLinear` of every ``nn.Linear`` within a network, in place; parameters stay the same objects.

    Layers of a derived class, or with a parametrization, are left as they are.
    """
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = SplitLinear


class SplitLinear(nn.Linear):
    """torch's linear layer; where two threads train on few images, each thread reads one half of the weights.

    torch splits a matrix product between threads by images, so both threads read all weights. The optimizer splits its
    update by weights, so each thread must fetch weights from the other core's cache. Where the two cores share no
    cache, as in many virtual machines, this takes longer than the update itself: split layers reduce the time of a step
    of the article's GAN by a fifth. Everything but training in fp32 on two threads of a CPU is left to torch. Results
    differ by rounding.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return (N, out_features) for (N, in_features)."""
        if (
            not torch.compiler.is_compiling()  # asked first: len() would fix the number of images in an export
            and torch.get_num_threads() == 2
            and input.device.type == "cpu"
            and input.dtype == torch.float32
            and input.ndim == 2
            and len(input) <= MAX_BATCH
            and self.bias is not None
            and self.out_features % 2 == 0
            and torch.is_grad_enabled()
            and not torch._C._are_functorch_transforms_active()
            and not torch.is_autocast_enabled("cpu")
        ):
            return SplitProduct.apply(input, self.weight, self.bias)
        return super().forward(input)


class SplitProduct(torch.autograd.Function):
    """x Wᵀ + b as two products, one for each half of the rows of W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return (N, out) for x (N, in), W (out, in) and b (out,)."""
        ctx.save_for_backward(x, weight)
        products = torch.baddbmm(bias.view(2, 1, -1), x.expand(2, -1, -1), halves(weight).mT)  # (2, N, out / 2)
        return torch.cat(products.unbind(), 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients with respect to x, W and b; they can be differentiated again."""
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            torch.bmm(halves(gradient.T).mT, halves(weight)).sum(0) if needs_x else None,
            gradient.T @ x if needs_weight else None,
            gradient.sum(0) if needs_bias else None,
        )


def halves(weight: Tensor) -> Tensor:
    """Return a view (2, out / 2, in) of (out, in)."""
    return weight.view(2, len(weight) // 2, weight.shape[1])

"""A linear layer whose weights stay with the thread that updates them."""

from typing import Any

import torch
from torch import Tensor, nn

FEW = 128  # images; with more of them, weights are less of the work, and cutting brings nothing


class Linear(nn.Linear):
    """torch's linear layer; where two threads train on few images, each reads one half of the weights.

    torch has threads share a product by its images, so that both read all weights. An optimizer, which shares by
    weights, must then take each back from the other thread, and waits for that longer than it computes if the two
    cores have no cache in common, as in many virtual machines. What is not trained in fp32 on two threads of a CPU is
    left to torch. The numbers differ by rounding.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, in_features) to (N, out_features)."""
        if (
            not torch.compiler.is_compiling()  # or exporting: asked first, as len() would fix the number of images
            and torch.get_num_threads() == 2
            and input.device.type == "cpu"
            and input.dtype == torch.float32
            and input.ndim == 2
            and len(input) <= FEW
            and self.bias is not None
            and self.out_features % 2 == 0
            and torch.is_grad_enabled()
            and not torch._C._are_functorch_transforms_active()
            and not torch.is_autocast_enabled("cpu")
        ):
            return Halves.apply(input, self.weight, self.bias)
        return super().forward(input)


class Halves(torch.autograd.Function):
    """x Wᵀ + b by two products, one for each half of the rows of W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Map x (N, in), W (out, in) and b (out,) to (N, out)."""
        ctx.save_for_backward(x, weight)
        upper_and_lower = torch.baddbmm(bias.view(2, 1, -1), x.expand(2, -1, -1), halves(weight).mT)  # (2, N, out / 2)
        return torch.cat(upper_and_lower.unbind(), 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Give the gradients in x, W and b, which can be differentiated again."""
        x, weight = ctx.saved_tensors
        in_x, in_weight, in_bias = ctx.needs_input_grad
        return (
            torch.bmm(halves(gradient.T).mT, halves(weight)).sum(0) if in_x else None,
            gradient.T @ x if in_weight else None,
            gradient.sum(0) if in_bias else None,
        )


def halves(weight: Tensor) -> Tensor:
    """Show (out, in) as (2, out / 2, in)."""
    return weight.view(2, len(weight) // 2, weight.shape[1])

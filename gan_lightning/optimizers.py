"""Optimizers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Gathered = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], Tensor]
PLAIN = {"fused": True, "amsgrad": False, "maximize": False, "decoupled_weight_decay": False, "differentiable": False}


class Adam(torch.optim.Adam):
    """torch's Adam, to the bit; fused, it gathers its tensors once, which torch does in each step.

    What is not fused, or has others of torch's options, is left to torch.
    """

    gathered: list[Gathered] | None = None  # by group: parameters, both moments, steps, and these as one tensor

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take further parameters."""
        super().add_param_group(param_group)
        self.gathered = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take another's state, such as a checkpoint's."""
        super().__setstate__(state)
        self.gathered = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Call ``closure``, follow the gradients that are there, and give what the closure gave."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients = [[p.grad for p in group["params"]] for group in self.param_groups]
        missing = any(gradient is None for of_group in gradients for gradient in of_group)
        if self.gathered is None or missing or hasattr(self, "found_inf"):  # which the scaler of 16-mixed sets
            super().step()
            self.gathered = self.gathered or self.gather()
            return loss
        for group, of_group, (parameters, means, squares, steps, count) in zip(
            self.param_groups, gradients, self.gathered, strict=True
        ):
            count.add_(1)
            torch._fused_adam_(
                parameters,
                of_group,
                means,
                squares,
                [],
                steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )
        return loss

    def gather(self) -> list[Gathered] | None:
        """Gather what the kernel needs; None if that would not be all, or not in one call."""
        gathered: list[Gathered] = []
        for group in self.param_groups:
            parameters, options = group["params"], {name: group[name] for name in PLAIN}
            kinds = {(p.device, p.dtype) for p in parameters}
            if options != PLAIN or len(kinds) > 1 or any(p not in self.state for p in parameters):
                return None
            states = [self.state[p] for p in parameters]
            count = torch.stack([state["step"] for state in states])
            for state, step in zip(states, count, strict=True):
                state["step"] = step
            means, squares, steps = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
            gathered.append((parameters, means, squares, steps, count))
        return gathered

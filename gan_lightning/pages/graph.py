"""A network as a list of a few kinds of operations on weights, which ``network.js`` runs in a browser.

Only one image is computed at a time, so that all shapes are fixed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# What an operation "function" computes of each number, with its settings a and b
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "abs": lambda x, a, b: x.abs(),
    "clamp": lambda x, a, b: x.clamp(a, b),
    "elu": lambda x, a, b: F.elu(x, a),
    "exp": lambda x, a, b: x.exp(),
    "gelu": lambda x, a, b: F.gelu(x, approximate="tanh"),
    "leaky_relu": lambda x, a, b: F.leaky_relu(x, a),
    "line": lambda x, a, b: a * x + b,
    "log": lambda x, a, b: x.log(),
    "log1p": lambda x, a, b: x.log1p(),
    "pow": lambda x, a, b: x**a,
    "relu": lambda x, a, b: x.relu(),
    "sigmoid": lambda x, a, b: x.sigmoid(),
    "step": lambda x, a, b: (x > a).float(),
    "tanh": lambda x, a, b: x.tanh(),
}
PAIRS: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "mul": torch.mul,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}
REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "sum": torch.sum,
    "mean": torch.mean,
    "amax": torch.amax,
    "amin": torch.amin,
}


@dataclass(frozen=True)
class Value:
    """An array that the network computes, or an input of it; views of other shapes have the same index."""

    index: int
    shape: tuple[int, ...]


@dataclass
class Operation:
    """One operation: arrays, which are earlier values or weights, to the array ``output``."""

    name: str
    inputs: list[Value | Tensor]
    output: Value
    settings: dict[str, Any]

    def __call__(self, *arrays: Tensor) -> Tensor:
        """Return the output, as ``network.js`` computes it."""
        found = compute(self.name, *arrays, **self.settings)
        return found.reshape(self.output.shape)


@dataclass
class Graph:
    """The operations of a network in their order; the first values are its inputs, the last one is its output."""

    inputs: list[Value]
    operations: list[Operation]
    output: Value

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return the output for inputs of a batch of one."""
        values = {value.index: given for value, given in zip(self.inputs, inputs, strict=True)}
        for operation in self.operations:
            arrays = [values[i.index].reshape(i.shape) if isinstance(i, Value) else i for i in operation.inputs]
            values[operation.output.index] = operation(*arrays)
        return values[self.output.index].reshape(self.output.shape)

    def rounded(self, kind: str) -> "Graph":
        """Return the graph with weights as a page has them; see :func:`encode`."""
        operations = [
            replace(o, inputs=[i if isinstance(i, Value) else encode(i, kind)[1] for i in o.inputs])
            for o in self.operations
        ]
        return Graph(self.inputs, operations, self.output)

    def pack(self, kind: str, blob: bytearray) -> dict[str, Any]:
        """Return what ``network.js`` needs, and append the weights to ``blob``; see :func:`encode`."""

        def packed(array: Value | Tensor) -> Any:
            if isinstance(array, Value):
                return array.index
            description: dict[str, Any] = {"type": "float32", "rows": 1, "size": array.numel()}
            parts, _ = encode(array, kind)
            for name, part in parts.items():
                blob.extend(bytes(-len(blob) % 4))
                description[name] = len(blob)
                blob.extend(part.numpy().tobytes())
                if name == "data":
                    description["type"] = str(part.dtype).removeprefix("torch.")
            if "scales" in parts:
                description["rows"] = len(parts["scales"])
            return description

        return {
            "inputs": [[value.index, math.prod(value.shape)] for value in self.inputs],
            "operations": [
                {"name": o.name, "inputs": [packed(i) for i in o.inputs], "output": o.output.index}
                | {"size": math.prod(o.output.shape)}
                | o.settings
                for o in self.operations
            ],
            "output": self.output.index,
        }


def encode(weight: Tensor, kind: str) -> tuple[dict[str, Tensor], Tensor]:
    """Return a weight as a page holds it, and its values then.

    Args:
        weight: Any shape; vectors, and what does not fit, are kept as float32.
        kind: "fp16", or "int8" with a scale for each row, which is an output of its layer.

    Returns:
        ``data``, and for int8 ``scales``, by name; and the rounded weight, float32.
    """
    weight = weight.detach().float().contiguous()
    if weight.ndim < 2 or (kind == "fp16" and weight.abs().max() > torch.finfo(torch.float16).max):
        return {"data": weight}, weight
    if kind == "fp16":
        half = weight.half()
        return {"data": half}, half.float()
    scales = weight.flatten(1).abs().amax(1).clamp(min=1e-30) / 127
    data = (weight.flatten(1) / scales[:, None]).round().to(torch.int8)
    return {"data": data, "scales": scales}, (data.float() * scales[:, None]).view_as(weight)


def compute(name: str, x: Tensor, *others: Tensor, **settings: Any) -> Tensor:
    """Return the output of the operation ``name``: what each kind of operation means."""
    match name:
        case "linear":
            return F.linear(x.reshape(-1, others[0].shape[1]), *others)
        case "convolution":
            return convolve(x, *others, **settings)
        case "affine":  # a factor and a summand for each channel
            return x.reshape(len(others[0]), -1) * others[0][:, None] + others[1][:, None]
        case "normalize":
            rows = x.reshape(settings["rows"], -1)
            return F.layer_norm(rows, rows.shape[1:], eps=settings["eps"])
        case "function":
            return FUNCTIONS[settings["function"]](x, settings["a"], settings["b"])
        case "reduce":
            return REDUCTIONS[settings["function"]](x.reshape(settings["rows"], -1), 1)
        case "copy":  # any permutation, slice, window or repetition
            return x.clone(memory_format=torch.contiguous_format).as_strided(
                settings["sizes"], settings["strides"], settings["offset"]
            )
        case "concatenate":
            return torch.cat([part.reshape(settings["rows"], -1) for part in (x, *others)], 1)
        case "embedding":
            return others[0][x]
        case "where":
            return torch.where(x > 0, others[0].view_as(x), others[1].view_as(x))
        case _:
            return PAIRS[name](x, others[0].view_as(x))


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    kernel: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    **_: Any,
) -> Tensor:
    """Return the output of a convolution; a transposed one has a row of weights for each place in its kernel."""
    if not transposed:
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    weight = weight.view(groups, -1, *kernel, weight.shape[1]).permute(0, 4, 1, 2, 3).flatten(0, 1)
    return F.conv_transpose2d(x, weight, bias, stride, padding, output_padding, groups, dilation)

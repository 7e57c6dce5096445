"""A network's ATen operations, translated into those of :mod:`gan_lightning.pages.graph`.

What depends on weights alone, as spectral normalization does, is computed here; batch normalization becomes part of the
layer before it where it can.
"""
# ruff: noqa: D102, PLR0917 - methods of Builder have the names and arguments of ATen's operations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gan_lightning.errors import InputError
from gan_lightning.pages.graph import Graph, Operation, Value


def trace(network: nn.Module, inputs: Sequence[Tensor]) -> Graph:
    """Return the graph of a network in evaluation mode.

    Args:
        network: Any module whose operations are known here.
        inputs: A batch of one.

    Raises:
        InputError: If there is no such operation; it is named.
    """
    with torch.no_grad():
        program = torch.export.export(network, tuple(inputs), strict=False).run_decompositions()
    signature, weights = program.graph_signature, {**program.state_dict, **program.constants}
    held = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    builder, values = Builder(), {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in held:
            values[node] = weights[held[node.name]].detach()
        elif node.op == "placeholder":
            values[node] = builder.new(tuple(node.meta["val"].shape))
            builder.inputs.append(values[node])
        elif node.op == "call_function":
            arguments = torch.fx.node.map_arg((node.args, node.kwargs), values.get)
            values[node] = builder.call(node.target, *arguments)
    (output,) = program.graph.output_node().args[0]
    return Graph(builder.inputs, merge_affine(builder.operations), values[output])


class Builder:
    """Translates ATen operations, one at a time."""

    def __init__(self) -> None:
        self.inputs: list[Value] = []
        self.operations: list[Operation] = []
        self.count = 0

    def new(self, shape: tuple[int, ...]) -> Value:
        """Return a new value."""
        self.count += 1
        return Value(self.count - 1, shape)

    def emit(self, name: str, inputs: Sequence[Value | Tensor | None], shape: Sequence[int], **settings: Any) -> Value:
        """Add an operation; return its output."""
        output = self.new(tuple(shape))
        self.operations.append(Operation(name, [i for i in inputs if i is not None], output, settings))
        return output

    def call(self, target: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Return the result of an ATen operation: a tensor if all its arguments are known, else one or more values."""
        if not any(isinstance(leaf, Value) for leaf in torch.utils._pytree.tree_leaves((args, kwargs))):
            return target(*args, **kwargs)
        name = str(getattr(target, "overloadpacket", target.__name__))
        if name == "getitem":
            return args[0][args[1]] if isinstance(args[0], list) else args[0]
        if name.startswith("aten._assert"):
            return None
        method = getattr(self, name.removeprefix("aten.").strip("_"), None)
        if name.startswith("aten.") and method:
            given = {a.name: a.default_value for a in target._schema.arguments}
            given |= dict(zip(given, args, strict=False)) | kwargs
            return method(*given.values())
        raise InputError(f"the page cannot run {name}; use out=FILE.onnx")

    # Layers

    def addmm(self, bias: Tensor, x: Value, weight: Tensor, *_: Any) -> Value:
        return self.emit(
            "linear", (x, known(weight).T, known(bias)), (x.shape[0], weight.shape[1]), outputs=weight.shape[1]
        )

    def mm(self, x: Value, weight: Tensor, *_: Any) -> Value:
        return self.emit("linear", (x, known(weight).T), (x.shape[0], weight.shape[1]), outputs=weight.shape[1])

    def convolution(
        self,
        x: Value,
        weight: Tensor,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        transposed: bool,
        output_padding: list[int],
        groups: int,
    ) -> Value:
        if len(x.shape) != 4:
            raise InputError("the page cannot run convolutions other than those of images; use out=FILE.onnx")
        kernel, sizes = list(known(weight).shape[2:]), []
        for size, k, s, p, d, extra in zip(x.shape[2:], kernel, stride, padding, dilation, output_padding, strict=True):
            reach = d * (k - 1) + 1
            sizes.append((size - 1) * s - 2 * p + reach + extra if transposed else (size + 2 * p - reach) // s + 1)
        channels = weight.shape[1] * groups if transposed else weight.shape[0]
        if transposed:  # a row for each output and each place in the kernel
            weight = weight.unflatten(0, (groups, -1)).permute(0, 2, 3, 4, 1).flatten(0, 3)
        return self.emit(
            "convolution",
            (x, weight, torch.zeros(channels) if bias is None else bias),
            (1, channels, *sizes),
            image=list(x.shape[1:]),
            channels=channels,
            sizes=sizes,
            kernel=kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            transposed=transposed,
            output_padding=output_padding,
            groups=groups,
        )

    def embedding(self, weight: Tensor, indices: Value, *_: Any) -> Value:
        return self.emit("embedding", (indices, known(weight)), (*indices.shape, weight.shape[1]))

    def native_batch_norm_legit_no_training(
        self, x: Value, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, _: float, eps: float
    ) -> Value:
        factor = (known(var) + eps).rsqrt() * (1 if weight is None else weight)
        return self.affine(x, factor, (0 if bias is None else bias) - mean * factor)

    def native_batch_norm_legit(
        self, x: Value, weight: Tensor | None, bias: Tensor | None, training: bool, _: float, eps: float
    ) -> Value:
        return self.native_group_norm(x, weight, bias, 1, x.shape[1], 1, x.shape[1], eps)

    def native_group_norm(
        self, x: Value, weight: Tensor | None, bias: Tensor | None, _: int, c: int, __: int, groups: int, eps: float
    ) -> Value:
        found = self.emit("normalize", (x,), x.shape, rows=groups, eps=eps)
        if weight is None and bias is None:
            return found
        return self.affine(found, torch.ones(c) if weight is None else weight, torch.zeros(c) if bias is None else bias)

    def native_layer_norm(
        self, x: Value, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Value:
        rows = math.prod(x.shape) // math.prod(shape)
        found = self.emit("normalize", (x,), x.shape, rows=rows, eps=eps)
        found = found if weight is None else self.mul(found, weight)
        return found if bias is None else self.add(found, bias)

    def affine(self, x: Value, factor: Tensor, summand: Tensor) -> Value:
        return self.emit("affine", (x, factor, summand), x.shape)

    # Functions of each number

    def function(self, name: str, x: Value, a: float = 0.0, b: float = 0.0) -> Value:
        return self.emit("function", (x,), x.shape, function=name, a=a, b=b)

    def abs(self, x: Value) -> Value:
        return self.function("abs", x)

    def clamp(self, x: Value, low: float | None = None, high: float | None = None) -> Value:
        return self.function("clamp", x, -3e38 if low is None else low, 3e38 if high is None else high)

    hardtanh = clamp

    def elu(self, x: Value, alpha: float, scale: float, input_scale: float) -> Value:
        x = x if input_scale == 1 else self.function("line", x, input_scale)
        found = self.function("elu", x, alpha)
        return found if scale == 1 else self.function("line", found, scale)

    def exp(self, x: Value) -> Value:
        return self.function("exp", x)

    def gelu(self, x: Value, *_: Any) -> Value:
        return self.function("gelu", x)

    def leaky_relu(self, x: Value, slope: float) -> Value:
        return self.function("leaky_relu", x, slope)

    def log(self, x: Value) -> Value:
        return self.function("log", x)

    def log1p(self, x: Value) -> Value:
        return self.function("log1p", x)

    def gt(self, x: Value, bound: float) -> Value:
        return self.function("step", x, bound)

    def neg(self, x: Value) -> Value:
        return self.function("line", x, -1)

    def pow(self, x: Value, exponent: float) -> Value:
        return self.function("pow", x, known(exponent))

    def reciprocal(self, x: Value) -> Value:
        return self.pow(x, -1)

    def relu(self, x: Value) -> Value:
        return self.function("relu", x)

    def rsqrt(self, x: Value) -> Value:
        return self.pow(x, -0.5)

    def sigmoid(self, x: Value) -> Value:
        return self.function("sigmoid", x)

    def sqrt(self, x: Value) -> Value:
        return self.pow(x, 0.5)

    def tanh(self, x: Value) -> Value:
        return self.function("tanh", x)

    # Functions of two numbers; "line" if one of them is the same everywhere

    def pair(self, name: str, x: Any, y: Any) -> Value:
        shape = torch.broadcast_shapes(*(getattr(i, "shape", ()) for i in (x, y)))
        return self.emit(name, (self.broadcast(x, shape), self.broadcast(y, shape)), shape)

    def broadcast(self, x: Any, shape: Sequence[int]) -> Value | Tensor:
        if isinstance(x, Value):
            return self.expand(x, shape)
        return torch.as_tensor(x, dtype=torch.float32).expand(*shape).flatten()

    def add(self, x: Any, y: Any, alpha: float = 1) -> Value:
        y = y if alpha == 1 else self.mul(y, alpha)
        x, y = (x, y) if isinstance(x, Value) else (y, x)
        return self.pair("add", x, y) if (number := scalar(y)) is None else self.function("line", x, 1, number)

    def mul(self, x: Any, y: Any) -> Any:
        if not isinstance(x, Value) and not isinstance(y, Value):
            return x * y
        x, y = (x, y) if isinstance(x, Value) else (y, x)
        return self.pair("mul", x, y) if (number := scalar(y)) is None else self.function("line", x, number)

    def sub(self, x: Any, y: Any, alpha: float = 1) -> Value:
        return self.add(x, self.mul(y, -alpha))

    def rsub(self, x: Any, y: Any, alpha: float = 1) -> Value:
        return self.sub(y, x, alpha)

    def div(self, x: Any, y: Any) -> Value:
        return self.mul(x, self.reciprocal(y) if isinstance(y, Value) else 1 / y)

    def maximum(self, x: Any, y: Any) -> Value:
        return self.pair("maximum", *((x, y) if isinstance(x, Value) else (y, x)))

    def minimum(self, x: Any, y: Any) -> Value:
        return self.pair("minimum", *((x, y) if isinstance(x, Value) else (y, x)))

    def where(self, condition: Value, x: Any, y: Any) -> Value:
        arrays = [self.broadcast(array, condition.shape) for array in (condition, x, y)]
        return self.emit("where", arrays, condition.shape)

    # Reductions and pooling

    def reduce(self, name: str, x: Value, dims: Sequence[int] | None, keepdim: bool) -> Value:
        rank = len(x.shape)
        over = sorted(d % rank for d in dims) if dims else list(range(rank))
        kept = [d for d in range(rank) if d not in over]
        rows = math.prod(x.shape[d] for d in kept)
        shape = [1 if d in over else x.shape[d] for d in range(rank) if keepdim or d in kept]
        return self.emit("reduce", (self.permute(x, [*kept, *over]),), shape, function=name, rows=rows)

    def sum(self, x: Value, dim: Any = None, keepdim: bool = False, *_: Any) -> Value:
        return self.reduce("sum", x, dim, keepdim)

    def mean(self, x: Value, dim: Any = None, keepdim: bool = False, *_: Any) -> Value:
        return self.reduce("mean", x, dim, keepdim)

    def amax(self, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
        return self.reduce("amax", x, dim, keepdim)

    def amin(self, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
        return self.reduce("amin", x, dim, keepdim)

    def pool(
        self, name: str, x: Value, kernel: list[int], stride: list[int], padding: Any = (), ceil: bool = False
    ) -> Value:
        stride = stride or kernel
        if any(padding) or ceil:
            raise InputError("the page cannot run pooling with padding; use out=FILE.onnx")
        n, c, h, w = x.shape
        size = [(side - k) // s + 1 for side, k, s in zip((h, w), kernel, stride, strict=True)]
        strides = (n * c * h * w, h * w, stride[0] * w, stride[1], w, 1)
        windows = self.copy(x, (n, c, *size, *kernel), strides)
        return self.emit("reduce", (windows,), (n, c, *size), function=name, rows=n * c * math.prod(size))

    def avg_pool2d(
        self, x: Value, kernel: list[int], stride: list[int], padding: Any, ceil: bool = False, *_: Any
    ) -> Value:
        return self.pool("mean", x, kernel, stride, padding, ceil)

    def max_pool2d_with_indices(
        self, x: Value, kernel: list[int], stride: list[int], padding: Any, _: Any, ceil: bool
    ) -> Value:
        return self.pool("amax", x, kernel, stride, padding, ceil)

    def adaptive_avg_pool2d(self, x: Value, size: list[int]) -> Value:
        kernel = [side // n for side, n in zip(x.shape[2:], size, strict=True)]
        if any(side % n for side, n in zip(x.shape[2:], size, strict=True)):
            raise InputError("the page cannot run adaptive pooling to a size that is no divisor; use out=FILE.onnx")
        return self.pool("mean", x, kernel, kernel, (), ceil=False)

    def upsample_nearest2d(self, x: Value, size: list[int] | None, factors: list[float] | None) -> Value:
        n, c, h, w = x.shape
        high, wide = size if size else (int(side * f) for side, f in zip((h, w), factors or (), strict=True))
        if high % h or wide % w:
            raise InputError("the page cannot run an upsampling whose factor is not whole; use out=FILE.onnx")
        shape = (n, c, h, high // h, w, wide // w)
        return self.view(self.copy(x, shape, (n * c * h * w, h * w, w, 0, 1, 0)), (n, c, high, wide))

    # Shapes

    def copy(self, x: Value, shape: Sequence[int], strides: Sequence[int], offset: int = 0) -> Value:
        return self.emit("copy", (x,), shape, sizes=list(shape), strides=list(strides), offset=offset)

    def view(self, x: Value, shape: Sequence[int], *_: Any) -> Value:
        return Value(x.index, tuple(torch.empty(x.shape, device="meta").view(shape).shape))

    unsafe_view = reshape = view

    def clone(self, x: Value, *_: Any) -> Value:
        return x

    to_copy = detach = alias = clone

    def unsqueeze(self, x: Value, dim: int) -> Value:
        return Value(x.index, tuple(torch.empty(x.shape, device="meta").unsqueeze(dim).shape))

    def squeeze(self, x: Value, *dims: Any) -> Value:
        return Value(x.index, tuple(torch.empty(x.shape, device="meta").squeeze(*dims).shape))

    def moved(self, x: Value, method: str, *arguments: Any) -> Value:
        like = torch.empty(math.prod(x.shape) or 1).view(x.shape)  # knows the strides
        like = getattr(like, method)(*arguments)
        if like.is_contiguous() and like.numel() == math.prod(x.shape):
            return Value(x.index, tuple(like.shape))
        return self.copy(x, like.shape, like.stride(), like.storage_offset())

    def permute(self, x: Value, dims: list[int]) -> Value:
        return self.moved(x, "permute", dims)

    def expand(self, x: Value, shape: Sequence[int], *_: Any) -> Value:
        return self.moved(x, "expand", list(shape))

    def select(self, x: Value, dim: int, index: int) -> Value:
        return self.moved(x, "select", dim, index)

    def slice(self, x: Value, dim: int, start: int | None, end: int | None, step: int = 1) -> Value:
        size = x.shape[dim]
        first, last, _ = slice(start, end).indices(size)
        if step != 1:
            raise InputError("the page cannot run slices with a step; use out=FILE.onnx")
        return self.moved(x, "narrow", dim, first, last - first)

    def split_with_sizes(self, x: Value, sizes: list[int], dim: int = 0) -> list[Value]:
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        return [self.moved(x, "narrow", dim, start, size) for start, size in zip(starts, sizes, strict=True)]

    def cat(self, parts: list[Any], dim: int = 0) -> Value:
        shapes = [part.shape for part in parts]
        dim %= len(shapes[0])
        shape = list(shapes[0])
        shape[dim] = sum(s[dim] for s in shapes)
        parts = [part if isinstance(part, Value) else part.float().flatten() for part in parts]
        return self.emit("concatenate", parts, shape, rows=math.prod(shape[:dim]))


def known(tensor: Any) -> Any:
    """Return an argument that must not depend on the network's inputs; InputError if it does."""
    if isinstance(tensor, Value):
        raise InputError("the page cannot run layers whose weights depend on z or x; use out=FILE.onnx")
    return tensor


def scalar(number: Any) -> float | None:
    """Return a number, or a tensor of one, as a float; None for all else."""
    if isinstance(number, Value) or (isinstance(number, Tensor) and number.numel() != 1):
        return None
    return float(number)


def merge_affine(operations: list[Operation]) -> list[Operation]:
    """Return the operations with each factor and summand per channel moved into the layer whose output it takes."""
    uses: dict[int, int] = {}
    for operation in operations:
        for array in operation.inputs:
            if isinstance(array, Value):
                uses[array.index] = uses.get(array.index, 0) + 1
    merged: dict[int, Operation] = {}  # by the index of the output
    for operation in operations:
        source = operation.inputs[0]
        layer = merged.get(source.index) if isinstance(source, Value) else None
        if operation.name == "affine" and layer and takes_affine(layer) and uses[layer.output.index] == 1:
            del merged[layer.output.index]
            merged[operation.output.index] = with_affine(layer, operation)
        else:
            merged[operation.output.index] = operation
    return list(merged.values())


def takes_affine(layer: Operation) -> bool:
    """Return whether an operation is a layer with a row of weights for each channel, or for each number of it."""
    return layer.name == "convolution" or (layer.name == "linear" and layer.output.shape[0] == 1)


def with_affine(layer: Operation, affine: Operation) -> Operation:
    """Return a layer that computes what a factor and a summand for each channel make of its output."""
    x, weight, *biases = layer.inputs
    factor, summand = (known(array) for array in affine.inputs[1:])
    rows = known(weight).flatten(1) * spread(factor, len(known(weight)))[:, None]
    size = layer.settings.get("channels", len(rows))
    bias = spread(summand, size)
    for before in biases:
        bias = bias + known(before) * spread(factor, size)
    return Operation(layer.name, [x, rows.view_as(known(weight)), bias], affine.output, layer.settings)


def spread(values: Tensor, size: int) -> Tensor:
    """Return values (C,) as (size,), each repeated as often."""
    return values.repeat_interleave(size // len(values))

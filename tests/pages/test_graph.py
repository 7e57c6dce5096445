"""The operations of a network's graph compute what the network does, and the browser what the graph does."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.errors import InputError
from gan_lightning.pages import graph
from gan_lightning.pages.graph import encode
from gan_lightning.pages.trace import trace

SCRIPT = """
const {graph, weights, inputs} = JSON.parse(require("fs").readFileSync(0));
const bytes = Uint8Array.from(atob(weights), c => c.charCodeAt(0));
console.log(JSON.stringify(Array.from(network(graph, bytes)(...inputs))));
"""


class Pieces(nn.Module):
    """Arithmetic, parts and reductions of (1, 4, 3)."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        c = (1 - a) / (b.abs() + 1).sqrt() + (x.mean(1, keepdim=True) * torch.arange(3.0))[..., 1:2] * 2
        return torch.maximum(c, torch.minimum(b, a))[..., :2] - x.transpose(1, 2)[:, 1, None, :2].exp()


CASES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "resolution": (
        nn.Sequential(nn.Upsample(scale_factor=(2, 3)), nn.AvgPool2d(2), nn.MaxPool2d(3, 1), nn.PixelShuffle(2)),
        (1, 4, 6, 4),
    ),
    "normalization": (
        nn.Sequential(nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.BatchNorm2d(4), nn.Flatten(), nn.LayerNorm(36)),
        (1, 4, 3, 3),
    ),
    "functions": (
        nn.Sequential(nn.SiLU(), nn.Softplus(), nn.ELU(), nn.SELU(), nn.PReLU(), nn.Hardtanh(-0.5), nn.Sigmoid()),
        (1, 9),
    ),
    "grouped": (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(2, 1), dilation=2, groups=2), (1, 4, 7, 6)),
    "transposed": (
        nn.Sequential(
            nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2),
            nn.BatchNorm2d(6),
            nn.AdaptiveAvgPool2d(1),
        ),
        (1, 4, 3, 5),
    ),
    "linear": (nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3, bias=False)), (1, 5)),
    "rows": (nn.Sequential(nn.Linear(5, 6), nn.GELU("tanh")), (1, 3, 5)),
    "pieces": (Pieces(), (1, 4, 3)),
}


def disturbed(network: nn.Module) -> nn.Module:
    """Return a network in evaluation mode whose normalization is not the identity."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.3, 3)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return network.eval()


@pytest.mark.parametrize("case", CASES)
def test_a_graph_is_its_network(case: str) -> None:
    network, shape = CASES[case]
    x, node = torch.randn(shape), shutil.which("node")
    with torch.no_grad():
        wanted = disturbed(network)(x)
    found = trace(network, (x,))
    torch.testing.assert_close(found(x), wanted, rtol=1e-4, atol=1e-5)
    if node is None:
        pytest.skip("there is no node to run the script")
    for kind in ("fp16", "int8"):
        blob = bytearray()
        packed = {"graph": found.pack(kind, blob), "weights": base64.b64encode(blob).decode()}
        script = Path(graph.__file__).with_name("network.js").read_text("utf-8") + SCRIPT
        given = json.dumps(packed | {"inputs": [x.flatten().tolist()]})
        done = subprocess.run([node, "-e", script], input=given, capture_output=True, text=True, check=True)
        rounded = found.rounded(kind)(x).flatten()
        torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), rounded, rtol=1e-4, atol=1e-5)
        assert (rounded - wanted.flatten()).abs().max() < {"fp16": 0.01, "int8": 0.3}[kind]


def test_batch_normalization_becomes_part_of_the_layer_before_it() -> None:
    network = disturbed(nn.Sequential(nn.Linear(2, 12), nn.Unflatten(1, (3, 2, 2)), nn.BatchNorm2d(3), nn.ReLU()))
    assert [operation.name for operation in trace(network, (torch.randn(1, 2),)).operations] == ["linear", "function"]


def test_a_layer_whose_output_is_used_twice_stays_as_it_is() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(2, 3), nn.BatchNorm1d(3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.linear(x)
            return y + self.norm(y)

    network, x = disturbed(Twice()), torch.randn(1, 2)
    torch.testing.assert_close(trace(network, (x,))(x), network(x))


@pytest.mark.parametrize(
    ("network", "line"),
    [
        (nn.Softmax(1), r"the page cannot run aten\._softmax; use out=FILE\.onnx"),
        (nn.Sequential(nn.Conv1d(2, 2, 1)), "other than those of images"),
        (nn.Bilinear(2, 2, 2), "the page cannot run "),
    ],
)
def test_an_unknown_operation_is_named(network: nn.Module, line: str) -> None:
    inputs = (torch.randn(1, 2),) * 2 if isinstance(network, nn.Bilinear) else (torch.randn(1, 2, 3),)
    with pytest.raises(InputError, match=line):
        trace(network, inputs)


def test_encoding_keeps_what_does_not_fit() -> None:
    large, bias = torch.tensor([[1e5, 1.0]]), torch.tensor([1 / 3])
    assert torch.equal(encode(large, "fp16")[1], large)
    assert torch.equal(encode(bias, "int8")[1], bias)
    weights = torch.tensor([[1.0, 0.5], [100.0, -127.0], [0.0, 0.0]])
    parts, rounded = encode(weights, "int8")
    assert parts["data"].tolist() == [[127, 64], [100, -127], [0, 0]]
    torch.testing.assert_close(rounded, torch.tensor([[1.0, 64 / 127], [100.0, -127.0], [0.0, 0.0]]))

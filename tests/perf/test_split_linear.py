from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.perf.split_linear import MAX_BATCH, SplitLinear, SplitProduct, split_linear_layers


@pytest.fixture
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def is_split(y: Tensor) -> bool:
    return type(y.grad_fn).__name__ == "SplitProductBackward"


def test_layers_are_split_in_place() -> None:
    class Own(nn.Linear): ...

    own, parametrized = Own(4, 2), nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2))
    network = nn.Sequential(nn.Linear(6, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 4)), own, parametrized)
    before, kind = dict(network.named_parameters()), type(parametrized)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    split_linear_layers(network)
    assert [type(network[0]), type(network[1][1])] == [SplitLinear, SplitLinear]
    assert (type(own), type(parametrized)) == (Own, kind)
    after = dict(network.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is parameter for name, parameter in before.items())
    torch.testing.assert_close(dict(network.state_dict()), state, rtol=0, atol=0)


def test_first_and_second_derivatives() -> None:
    inputs = [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in ((3, 5), (4, 5), (4,))]
    assert torch.autograd.gradcheck(SplitProduct.apply, inputs)
    assert torch.autograd.gradgradcheck(SplitProduct.apply, inputs)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("layout", [lambda x: x, lambda x: x.T.contiguous().T])
def test_results_are_torchs(layout: Callable[[Tensor], Tensor]) -> None:
    ours, theirs = SplitLinear(784, 512), nn.Linear(784, 512)
    theirs.load_state_dict(ours.state_dict())
    images, gradient = layout(torch.randn(64, 784)), layout(torch.randn(64, 512))
    found = []
    for layer in (ours, theirs):
        x = images.detach().requires_grad_()
        y = layer(x)
        assert is_split(y) == (layer is ours)
        y.backward(gradient)
        found.append((y, x.grad, layer.weight.grad, layer.bias.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("two_threads")
def test_frozen_layers_get_no_gradient() -> None:
    layer = SplitLinear(6, 4).requires_grad_(False)
    x = torch.randn(5, 6, requires_grad=True)
    y = layer(x)
    assert is_split(y)
    y.sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(5, 6))
    assert layer.weight.grad is None


@pytest.mark.usefixtures("two_threads")
def test_what_is_left_to_torch() -> None:
    x = torch.randn(8, 6)
    assert is_split(SplitLinear(6, 4)(x))
    assert not is_split(SplitLinear(6, 5)(x))  # cannot be halved
    assert not is_split(SplitLinear(6, 4, bias=False)(x))
    assert not is_split(SplitLinear(6, 4)(torch.randn(MAX_BATCH + 1, 6)))
    assert not is_split(SplitLinear(6, 4)(x.view(2, 4, 6)))
    assert not is_split(SplitLinear(6, 4).double()(x.double()))
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_split(SplitLinear(6, 4)(x))
    layer = SplitLinear(6, 4)
    with torch.no_grad():
        assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    torch.set_num_threads(1)
    assert not is_split(SplitLinear(6, 4)(x))


@pytest.mark.usefixtures("two_threads")
def test_no_images() -> None:
    x = torch.randn(0, 6, requires_grad=True)
    y = SplitLinear(6, 4)(x)
    y.sum().backward()
    assert y.shape == (0, 4)
    assert x.grad is not None
    assert x.grad.shape == (0, 6)


@pytest.mark.usefixtures("two_threads")
def test_is_exported_for_any_number_of_images() -> None:
    layer, shapes = SplitLinear(6, 4), {"input": {0: torch.export.Dim("N")}}
    exported = torch.export.export(layer, (torch.randn(2, 6),), dynamic_shapes=shapes).module()
    for n in (1, 7):
        x = torch.randn(n, 6)
        torch.testing.assert_close(exported(x), layer(x))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("images", "width"), [(1, 6), (5, 2), (1, 2)])
def test_outputs_may_be_changed_in_place(images: int, width: int) -> None:
    x = torch.randn(images, 4, requires_grad=True)
    layer = SplitLinear(4, width)
    y = nn.functional.leaky_relu_(layer(x), 0.2)
    y.sum().backward()
    slopes = torch.where(x @ layer.weight.T + layer.bias > 0, 1.0, 0.2)
    torch.testing.assert_close(x.grad, slopes @ layer.weight)


@pytest.mark.usefixtures("two_threads")
def test_works_with_torch_func() -> None:
    layer, x = SplitLinear(6, 4), torch.randn(5, 6)

    def value(weight: Tensor, image: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, image[None]).square().sum()

    found = torch.func.vmap(torch.func.grad(value), (None, 0))(layer.weight, x)
    torch.testing.assert_close(found, 2 * layer(x)[:, :, None] * x[:, None])
    jacobian = torch.autograd.functional.jacobian(layer, torch.randn(5, 6), vectorize=True)
    torch.testing.assert_close(jacobian[2, :, 2], layer.weight)

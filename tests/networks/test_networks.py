"""What holds for every architecture: shapes, labels, spectral normalization, copies, precision, derivatives."""

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from gan_lightning.networks import dcgan, maxout, mlp, resnet
from gan_lightning.networks.labels import Condition, Projection
from gan_lightning.perf.split_linear import split_linear_layers

LATENT, CLASSES, SHAPE = 6, 3, [1, 16, 19]
CONVOLUTIONAL: dict[str, Any] = {"width": 4, "max_width": 8}
GENERATORS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
    "mlp": (mlp.Generator, {"widths": [8, 16], "negative_slope": 0.2, "batch_norm_eps": 0.8}),
    "maxout": (maxout.Generator, {"widths": [8, 16], "weight_bound": 0.05}),
    "dcgan": (dcgan.Generator, {"weight_init": "default", **CONVOLUTIONAL}),
    "resnet": (resnet.Generator, {"blocks": 2, "negative_slope": 0.2, **CONVOLUTIONAL}),
}
DISCRIMINATORS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
    "mlp": (mlp.Discriminator, {"widths": [16, 8], "negative_slope": 0.2}),
    "maxout": (
        maxout.Discriminator,
        {"units": [16, 8], "pieces": 2, "input_dropout": 0.0, "hidden_dropout": 0.0, "weight_bound": 0.05},
    ),
    "dcgan": (dcgan.Discriminator, {"negative_slope": 0.2, "weight_init": "default", **CONVOLUTIONAL}),
    "resnet": (resnet.Discriminator, {"blocks": 2, "negative_slope": 0.2, **CONVOLUTIONAL}),
}
NAMES = list(GENERATORS)
SIZES = [[1, 28, 28], [3, 32, 32], [3, 48, 64], [3, 33, 47], [2, 64, 64], [1, 8, 8], [3, 9, 70]]
classes = pytest.mark.parametrize("num_classes", [0, CLASSES])
spectral = pytest.mark.parametrize("spectral_norm", [False, True])
every = pytest.mark.parametrize("name", NAMES)


def generator(name: str, image_shape: list[int] | None = None, **changes: Any) -> Any:
    build, arguments = GENERATORS[name]
    torch.manual_seed(0)
    return build(latent_dim=LATENT, image_shape=image_shape or SHAPE, **arguments | changes)


def discriminator(name: str, image_shape: list[int] | None = None, **changes: Any) -> Any:
    build, arguments = DISCRIMINATORS[name]
    torch.manual_seed(0)
    return build(image_shape=image_shape or SHAPE, **arguments | changes)


def images(n: int = 5) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def noise(n: int = 5) -> Tensor:
    return torch.randn(n, LATENT, generator=torch.Generator().manual_seed(2))


def labels(n: int = 5) -> Tensor:
    return torch.arange(n) % CLASSES


def parametrizations(network: nn.Module) -> list[Any]:
    return [module.parametrizations.weight[0] for module in network.modules() if is_parametrized(module, "weight")]


@every
@classes
@pytest.mark.parametrize("image_shape", SIZES, ids=str)
def test_shapes_and_ranges(name: str, num_classes: int, image_shape: list[int]) -> None:
    made = generator(name, image_shape, num_classes=num_classes)(9 * noise(), labels())
    assert made.shape == (5, *image_shape)
    assert made.abs().max() <= 1
    assert made.std() > 0
    logits = discriminator(name, image_shape, num_classes=num_classes)(made, labels())
    assert logits.shape == (5, 1)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", ["dcgan", "resnet"])
@pytest.mark.parametrize(
    ("image_shape", "nearest"),
    [([1, 5, 5], [1, 8, 8]), ([3, 7, 64], [3, 8, 64]), ([3, 64, 1], [3, 64, 8])],
    ids=str,
)
def test_sizes_that_are_too_small(name: str, image_shape: list[int], nearest: list[int]) -> None:
    for build in (generator, discriminator):
        with pytest.raises(ValueError, match="the nearest shape") as error:
            build(name, image_shape)
        assert str(error.value).startswith(f"image_shape={image_shape}: ")
        assert str(error.value).endswith(str(nearest))
        assert "\n" not in str(error.value)
        build(name, nearest)


@pytest.mark.parametrize("name", ["dcgan", "resnet"])
def test_points_are_for_fully_connected_networks(name: str) -> None:
    with pytest.raises(ValueError, match=r"image_shape=\[2, 1, 1\]: .*use model=mlp, or mlp_2d for points$"):
        discriminator(name, [2, 1, 1])


@every
@classes
@spectral
def test_gradients_reach_every_parameter(name: str, num_classes: int, spectral_norm: bool) -> None:
    made = generator(name, num_classes=num_classes)
    judged = discriminator(name, num_classes=num_classes, spectral_norm=spectral_norm)
    for module in (*made.modules(), *judged.modules()):
        if isinstance(module, resnet.Block) and not module.layers[-1].weight.any():
            nn.init.normal_(module.layers[-1].weight)  # as long as it is 0, the block's other layers have no gradient
    judged(made(noise(), labels()), labels()).square().sum().backward()
    for network in (made, judged):
        for key, parameter in network.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.abs().max() > 0, key


# Labels


@every
def test_unconditional_networks_ignore_labels(name: str) -> None:
    for network, x in ((generator(name), noise()), (discriminator(name), images())):
        network.eval()
        assert torch.equal(network(x), network(x, labels() + 99))


@every
def test_unconditional_networks_are_the_default_and_hold_nothing_for_labels(name: str) -> None:
    for build in (generator, discriminator):
        default, unconditional = build(name), build(name, num_classes=0)
        torch.testing.assert_close(dict(default.state_dict()), dict(unconditional.state_dict()), rtol=0, atol=0)
        assert not any(isinstance(module, Condition | Projection) for module in default.modules())


@every
def test_conditional_networks_depend_on_labels(name: str) -> None:
    for build, x in ((generator, noise()), (discriminator, images())):
        network = build(name, num_classes=CLASSES).eval()
        one, same, other = network(x, labels()), network(x, labels()), network(x, (labels() + 1) % CLASSES)
        assert torch.equal(one, same)
        differences = (one - other).flatten(1).abs().amax(1)
        assert differences.min() > 0  # of every image


@every
def test_the_generator_concatenates_the_embedding(name: str) -> None:
    network = generator(name, num_classes=CLASSES).eval()
    build, arguments = GENERATORS[name]
    unconditional = build(latent_dim=2 * LATENT, image_shape=SHAPE, **arguments).eval()
    state = network.state_dict()
    embeddings = state.pop("condition.embedding.weight")
    unconditional.load_state_dict(state)
    expected = unconditional(torch.cat([noise(), embeddings[labels()]], 1))
    torch.testing.assert_close(network(noise(), labels()), expected)


@every
def test_the_discriminator_projects(name: str) -> None:
    network = discriminator(name, num_classes=CLASSES).double().eval()
    found: list[Tensor] = []
    linear = [module for module in network.modules() if type(module) is nn.Linear][-1]
    linear.register_forward_hook(lambda module, inputs, output: found.append(inputs[0]))
    logits = network(images().double(), labels())
    for n in range(5):
        features, embedding = found[0][n], network.projection.weight[labels()[n]]
        expected = linear.bias[0] + sum(
            f * (w + e) for f, w, e in zip(features, linear.weight[0], embedding, strict=True)
        )
        torch.testing.assert_close(logits[n, 0], expected)


@every
def test_labels_that_are_missing_or_out_of_range(name: str) -> None:
    for build, x in ((generator, noise()), (discriminator, images())):
        network = build(name, num_classes=CLASSES)
        with pytest.raises(ValueError, match=r"^labels=None: .*num_classes=3.*label"):
            network(x)
        for value in (-1, CLASSES):
            with pytest.raises(ValueError, match=rf"^labels={value}: must be between 0 and 2"):
                network(x, torch.tensor([0, 1, 2, value, 0]))


@every
@pytest.mark.parametrize("value", [1, -1, 2**31])
def test_wrong_numbers_of_classes(name: str, value: int) -> None:
    for build in (generator, discriminator):
        with pytest.raises(ValueError, match=rf"^num_classes={value}: must be 0 .* or at least 2"):
            build(name, num_classes=value)


# Independence of images


@every
@classes
@spectral
def test_images_are_processed_independently(name: str, num_classes: int, spectral_norm: bool) -> None:
    made = generator(name, num_classes=num_classes).eval()
    judged = discriminator(name, num_classes=num_classes, spectral_norm=spectral_norm)
    for network, x in ((made, noise()), (judged.eval(), images())):
        alone = torch.cat([network(x[n : n + 1], labels()[n : n + 1]) for n in range(5)])
        torch.testing.assert_close(network(x, labels()), alone)
    if not spectral_norm:  # which improves its estimate from one pass to the next
        x = images().requires_grad_()
        logits = judged.train()(x, labels())
        (gradient,) = torch.autograd.grad(logits[2], x)
        assert gradient[2].abs().max() > 0
        assert gradient[[0, 1, 3, 4]].abs().max() == 0


# Spectral normalization


def layers(network: nn.Module) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]


@every
@classes
def test_the_largest_singular_values_become_1(name: str, num_classes: int) -> None:
    network = discriminator(name, num_classes=num_classes, spectral_norm=True)
    assert len(parametrizations(network)) == len(layers(network)) >= 3
    with torch.no_grad():
        for _ in range(300):
            network(images(2), labels(2))
    for layer in network.eval() and layers(network):
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)
        original = layer.parametrizations.weight.original.flatten(1)
        expected = original / torch.linalg.svdvals(original.double())[0]
        torch.testing.assert_close(layer.weight.flatten(1), expected.float(), rtol=0.02, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "maxout", "dcgan"])  # a residual block begins otherwise: see test_resnet.py
def test_layers_are_initialized_before_they_are_normalized(name: str) -> None:
    ordinary, normalized = discriminator(name), discriminator(name, spectral_norm=True)
    for one, other in zip(layers(ordinary), layers(normalized), strict=True):
        assert torch.equal(one.weight, other.parametrizations.weight.original)


@every
@classes
@spectral
def test_two_passes_before_one_backward_pass_and_second_derivatives(
    name: str, num_classes: int, spectral_norm: bool
) -> None:
    network = discriminator(name, num_classes=num_classes, spectral_norm=spectral_norm).double()
    x, y = images().double().requires_grad_(), labels()
    loss = network(x.detach(), y).sum() - network(-x.detach(), y).square().sum()
    (gradient,) = torch.autograd.grad(network(x, y).sum(), x, create_graph=True)
    (loss + gradient.square().sum()).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
    weight = network.layers[-1].parametrizations.weight.original if spectral_norm else network.layers[-1].weight
    network.eval()  # the estimate stays, so that the loss can be compared with itself

    def penalty() -> Tensor:
        (gradient,) = torch.autograd.grad(network(x, y).sum(), x, create_graph=True)
        return gradient.square().sum()

    (derivative,) = torch.autograd.grad(penalty(), weight)
    direction, step = torch.randn_like(weight), 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(direction, alpha=sign * step)
        values.append(penalty().detach())
        with torch.no_grad():
            weight.sub_(direction, alpha=sign * step)
    torch.testing.assert_close(
        (values[0] - values[1]) / (2 * step), (derivative * direction).sum(), rtol=1e-4, atol=1e-8
    )


@every
def test_cpu_tuning_leaves_normalized_layers_alone(name: str) -> None:
    network = discriminator(name, num_classes=CLASSES, spectral_norm=True).eval()
    kinds, logits = [type(module) for module in network.modules()], network(images(), labels())
    split_linear_layers(network)
    assert [type(module) for module in network.modules()] == kinds
    assert torch.equal(network(images(), labels()), logits)


# Copies, files, devices, precision


@every
@classes
@spectral
def test_copies_and_state_dicts(name: str, num_classes: int, spectral_norm: bool) -> None:
    for build, x, changes in (
        (generator, noise(), {}),
        (discriminator, images(), {"spectral_norm": spectral_norm}),
    ):
        network = build(name, num_classes=num_classes, **changes)
        network(x, labels())  # BatchNorm's statistics and the power method's vectors change
        copied, other = copy.deepcopy(network), build(name, num_classes=num_classes, **changes)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(1)
        other.load_state_dict(network.state_dict())
        for each in (copied, other):
            assert torch.equal(network.eval()(x, labels()), each.eval()(x, labels()))
        with torch.no_grad():
            next(copied.parameters()).add_(1)
        assert not torch.equal(next(copied.parameters()), next(network.parameters()))


@every
@classes
@spectral
def test_the_meta_device(name: str, num_classes: int, spectral_norm: bool) -> None:
    for build, changes in ((generator, {}), (discriminator, {"spectral_norm": spectral_norm})):
        with torch.device("meta"):
            estimated = build(name, num_classes=num_classes, **changes).state_dict()
        state = build(name, num_classes=num_classes, **changes).state_dict()
        assert {key: value.shape for key, value in estimated.items()} == {k: v.shape for k, v in state.items()}
        assert {value.device.type for value in estimated.values()} == {"meta"}


@every
@classes
@spectral
def test_bfloat16(name: str, num_classes: int, spectral_norm: bool) -> None:
    made = generator(name, num_classes=num_classes)
    judged = discriminator(name, num_classes=num_classes, spectral_norm=spectral_norm)
    exact = judged.eval()(images(), labels())
    judged.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert made(noise(), labels()).abs().max() <= 1
        x = images().requires_grad_()
        logits = judged(x, labels())
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    torch.testing.assert_close(logits.float(), exact, rtol=0.1, atol=0.1)
    (logits.float().sum() + gradient.float().square().sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in judged.parameters())
    assert {buffer.dtype for buffer in judged.buffers()} <= {torch.float32}
    for each in parametrizations(judged):
        assert each._u.norm().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", ["dcgan", "resnet"])
def test_convolutions_run_in_channels_last(name: str) -> None:
    found: dict[str, bool] = {}
    for part, network, x in (
        ("G", generator(name), noise()),
        ("D", discriminator(name, [3, 16, 16]), torch.rand(2, 3, 16, 16)),
    ):
        for key, module in network.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.register_forward_hook(
                    lambda module, inputs, output, key=f"{part} {key}": found.update(
                        {key: inputs[0].is_contiguous(memory_format=torch.channels_last)}
                    )
                )
        network(x)
    assert all(found.values()), found
    assert len(found) >= 4


# The networks without convolutions are what they were


def same_state(network: nn.Module, expected: nn.Module) -> None:
    found, wanted = network.state_dict(), expected.state_dict()
    assert list(found) == list(wanted)
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_the_mlps_weights_are_drawn_as_before() -> None:
    expected = nn.Module()
    network = generator("mlp")
    torch.manual_seed(0)
    sequence = [
        nn.Linear(6, 8),
        nn.LeakyReLU(),
        nn.Linear(8, 16),
        nn.BatchNorm1d(16),
        nn.LeakyReLU(),
        nn.Linear(16, 304),
    ]
    expected.layers = nn.Sequential(*sequence)
    same_state(network, expected)
    network = discriminator("mlp")
    torch.manual_seed(0)
    sequence = [nn.Flatten()]
    for before, after in pairwise([304, 16, 8]):
        sequence += [nn.Linear(before, after), nn.LeakyReLU()]
    expected.layers = nn.Sequential(*sequence, nn.Linear(8, 1))
    same_state(network, expected)


def uniform(network: nn.Module) -> None:
    for parameter in network.parameters():
        if parameter.ndim == 2:
            nn.init.uniform_(parameter, -0.05, 0.05)
        else:
            nn.init.zeros_(parameter)


def test_the_maxout_networks_weights_are_drawn_as_before() -> None:
    network = generator("maxout")
    torch.manual_seed(0)
    expected = nn.Module()
    expected.hidden = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 16), nn.ReLU())
    expected.visible = nn.Linear(16, 304)
    uniform(expected)
    same_state(network, expected)
    network = discriminator("maxout")
    torch.manual_seed(0)
    expected = nn.Module()
    units = [maxout.Maxout(304, 16, 2), nn.Dropout(), maxout.Maxout(16, 8, 2), nn.Dropout()]
    expected.layers = nn.Sequential(nn.Flatten(), nn.Dropout(), *units, nn.Linear(8, 1))
    uniform(expected)
    same_state(network, expected)

"""Algorithm 1, against Algorithm 1 written by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_lightning.averaging import ExponentialAverage
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.losses import Minimax, Relativistic
from gan_lightning.penalties import R1, R1R2, R2
from gan_lightning.seeding import fold
from gan_lightning.simultaneous import SimultaneousGAN
from tests.helpers import fit, same, tiny_gan, weights


def by_hand(gan: GAN, data: Tensor, *, clip: float | None = None) -> None:
    """Train in place by Algorithm 1, plainly, but for the one set of images that G and D share where it is the last."""
    generator_optimizer = torch.optim.SGD(gan.generator.parameters(), lr=0.1)
    discriminator_optimizer = torch.optim.SGD(gan.discriminator.parameters(), lr=0.2)
    parts = gan.accumulate_grad_batches
    for step, images in enumerate(data):
        torch.manual_seed(fold(gan.seed, 0, step))
        for real in images.chunk(gan.k):
            discriminator_optimizer.zero_grad()
            for minibatch in real.chunk(parts):
                fake = gan.generator(torch.randn(len(minibatch), 3))
                logits = gan.discriminator(torch.cat([minibatch, fake.detach()]))
                loss = gan.loss.discriminator(*logits.chunk(2))
                if gan.penalty and step % gan.penalty.every_n_steps == 0:
                    loss = loss + gan.penalty(gan.discriminator, minibatch, fake)
                (loss / parts).backward()
            if clip:
                torch.nn.utils.clip_grad_norm_(gan.discriminator.parameters(), clip)
            discriminator_optimizer.step()
        generator_optimizer.zero_grad()
        for minibatch in real.chunk(parts):
            if parts > 1:
                fake = gan.generator(torch.randn(len(minibatch), 3))
            others = [gan.discriminator(minibatch)] if isinstance(gan.loss, Relativistic) else []
            (gan.loss.generator(gan.discriminator(fake), *others) / parts).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(gan.generator.parameters(), clip)
        generator_optimizer.step()


def at_once_by_hand(gan: GAN, data: Tensor) -> None:
    """Train in place with both players stepping at once, plainly."""
    d, g = (list(network.parameters()) for network in (gan.discriminator, gan.generator))
    for step, real in enumerate(data):
        torch.manual_seed(fold(gan.seed, 0, step))
        fake = gan.generator(torch.randn(len(real), 3))
        real_logits, fake_logits = gan.discriminator(real), gan.discriminator(fake)
        others = [real_logits] if isinstance(gan.loss, Relativistic) else []
        loss = gan.loss.discriminator(real_logits, fake_logits)
        if gan.penalty and step % gan.penalty.every_n_steps == 0:
            loss = loss + gan.penalty(gan.discriminator, real, fake)
        moves = torch.autograd.grad(loss, d, retain_graph=True)
        moves += torch.autograd.grad(gan.loss.generator(fake_logits, *others), g)
        with torch.no_grad():
            for i, (parameter, move) in enumerate(zip(d + g, moves, strict=True)):
                parameter.sub_((0.2 if i < len(d) else 0.1) * move)


@pytest.mark.parametrize("loss", [Minimax(), Relativistic()])
@pytest.mark.parametrize("penalty", [None, R1(gamma=1.0)])
def test_players_step_at_once(loss: Any, penalty: R1 | None) -> None:
    gan, expected = (tiny_gan(SimultaneousGAN, loss=loss, penalty=penalty) for _ in range(2))
    trainer, data = fit(gan, steps=4)
    at_once_by_hand(expected, data)
    for a, b in zip(weights(gan).values(), weights(expected).values(), strict=True):
        torch.testing.assert_close(a, b)
    assert trainer.global_step == 4


@pytest.mark.parametrize("name", ["k", "accumulate_grad_batches"])
def test_players_who_step_at_once_take_one_minibatch(name: str) -> None:
    with pytest.raises(InputError, match=f"^{name}=2: allowed: 1"):
        tiny_gan(SimultaneousGAN, **{name: 2})


@pytest.mark.parametrize("loss", [Minimax(), Relativistic(), None])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("clip", [None, 0.05])
def test_training_is_algorithm_1(loss: Any, k: int, parts: int, clip: float | None) -> None:
    changes = {"k": k, "accumulate_grad_batches": parts} | ({"loss": loss} if loss else {})
    gan = tiny_gan(**changes, gradient_clip_val=clip, gradient_clip_algorithm="norm")
    trainer, data = fit(gan, steps=4)
    expected = tiny_gan(**changes)
    by_hand(expected, data, clip=clip)
    assert same(weights(gan), weights(expected))
    assert trainer.global_step == 4


@pytest.mark.parametrize("k", [1, 3])
def test_bf16_forgets_the_weights_of_before_an_update(k: int) -> None:
    changes = {"k": k, "penalty": R1(gamma=2.0)}
    gan, expected = tiny_gan(**changes), tiny_gan(**changes)
    _, data = fit(gan, steps=4, precision="bf16-mixed")
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        by_hand(expected, data)
    assert same(weights(gan), weights(expected))


@pytest.mark.parametrize("penalty", [R1(gamma=2.0), R2(gamma=2.0), R1R2(gamma=2.0), R1(gamma=2.0, every_n_steps=3)])
def test_a_penalty_is_the_discriminators(penalty: R1) -> None:
    gan, expected, plain = tiny_gan(penalty=penalty), tiny_gan(penalty=penalty), tiny_gan()
    _, data = fit(gan, steps=4)
    by_hand(expected, data)
    by_hand(plain, data)
    assert same(weights(gan), weights(expected))
    assert not same(weights(gan.discriminator), weights(plain.discriminator))


def to_lines_between(discriminator: Any, real: Tensor, fake: Tensor) -> Tensor:
    """Penalise slopes between real and generated images, as WGAN-GP does, without a thought of the generator."""
    between = torch.lerp(fake, real, 0.5).requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


@pytest.mark.parametrize("changes", [{}, {"k": 2}, {"kind": SimultaneousGAN}, {"accumulate_grad_batches": 2}])
def test_a_penalty_leaves_the_generator_alone(changes: dict[str, Any]) -> None:
    def detached(discriminator: Any, real: Tensor, fake: Tensor) -> Tensor:
        return to_lines_between(discriminator, real, fake.detach())

    gans = [tiny_gan(penalty=penalty, **changes) for penalty in (to_lines_between, detached)]
    for gan in gans:
        gan.discriminator.layers[2] = torch.nn.SiLU()  # whose slopes depend on the images
        fit(gan, steps=3)
    assert same(*map(weights, gans))


def test_frozen_weights_of_the_discriminator_stay_frozen() -> None:
    gan = tiny_gan()
    frozen = gan.discriminator.layers[1].requires_grad_(False)
    before = frozen.weight.clone()
    fit(gan, steps=3)
    assert torch.equal(frozen.weight, before)
    assert [p.requires_grad for p in gan.discriminator.parameters()] == [False, False, True, True]


@pytest.mark.parametrize(("kind", "plainly"), [(GAN, by_hand), (SimultaneousGAN, at_once_by_hand)])
@pytest.mark.parametrize("penalty", [R1(gamma=2.0), R2(gamma=2.0), R1R2(gamma=2.0, every_n_steps=3)])
def test_compiled_networks_train_to_the_same_weights(
    penalty: R1, kind: type[GAN], plainly: Callable[[GAN, Tensor], None]
) -> None:
    """By a backend that traces as the default one does, and needs no compiler; neither has a double backward."""
    gan, expected = tiny_gan(kind, penalty=penalty), tiny_gan(kind, penalty=penalty)
    for network in (gan.generator, gan.discriminator):
        network.compile(backend="aot_eager", dynamic=False)
    images = torch.randn(4, 1, 4, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(gan.discriminator(images).sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        slope.sum().backward()
    _, data = fit(gan, steps=4)
    plainly(expected, data)
    for name, value in weights(expected).items():
        torch.testing.assert_close(weights(gan)[name], value)


def test_the_average_follows_the_generator_alone() -> None:
    def average(network: torch.nn.Module) -> ExponentialAverage:
        return ExponentialAverage(network, half_life=2, ramp=1e9, latent_scale=1, every_n_steps=1)

    gan, plain = tiny_gan(average=average), tiny_gan()
    mean = weights(plain.generator)
    for steps in range(1, 4):  # the same run, longer and longer
        plain = tiny_gan()
        fit(plain, steps=steps)
        decay = 0.5**0.5
        mean = {n: decay * mean[n] + (1 - decay) * v for n, v in weights(plain.generator).items()}
    fit(gan, steps=3)
    assert same(weights(gan.generator), weights(plain.generator))
    assert gan.average is not None
    found = weights(gan.average.network)
    for name in (n for n in mean if not n.endswith("num_batches_tracked")):
        torch.testing.assert_close(found[name], mean[name])
    z = torch.randn(4, 3)
    gan.eval()
    assert torch.equal(gan(z), gan.average.network(z))


def test_accumulated_minibatches_are_one_large_one() -> None:
    """The discriminator's gradient over two halves is that over the whole, for equal noise."""
    gan = tiny_gan(accumulate_grad_batches=2)
    gan.generator.eval()  # no batch statistics
    real, z = torch.rand(8, 1, 4, 4), torch.randn(8, 3)
    gan.latent = iter([*z.chunk(2), z]).__next__
    gan.sample = lambda n: gan.generator(gan.latent())
    gan.update = lambda player: None
    gan.manual_backward = lambda loss: loss.backward()
    gradients = []
    for parts in (2, 1):
        gan.zero_grad()
        gan.accumulate_grad_batches = parts
        gan.update_discriminator(real)
        gradients.append([p.grad.clone() for p in gan.discriminator.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_clipping_by_value_bounds_every_entry() -> None:
    gan = tiny_gan(gradient_clip_val=1e-3, gradient_clip_algorithm="value")
    before = weights(gan.discriminator)
    fit(gan, steps=1)
    moves = [(gan.discriminator.state_dict()[name] - value).abs().max() for name, value in before.items()]
    assert max(moves) == pytest.approx(0.2 * 1e-3, rel=1e-2)


def count_calls(module: torch.nn.Module) -> list[int]:
    """Count the forward passes of a module, in a list of one."""
    calls = [0]

    def count(*_: Any) -> None:
        calls[0] += 1

    module.register_forward_hook(count)
    return calls


@pytest.mark.parametrize(("k", "parts", "passes"), [(1, 1, 1), (3, 1, 3), (1, 2, 4)])
def test_one_generator_pass_serves_both_where_it_can(k: int, parts: int, passes: int) -> None:
    gan = tiny_gan(k=k, accumulate_grad_batches=parts)
    calls = count_calls(gan.generator)
    fit(gan, steps=1)
    assert calls[0] == passes


def test_each_networks_gradient_is_off_while_the_other_steps() -> None:
    gan = tiny_gan()
    seen = []

    def spy(update: Callable[[int], None]) -> Callable[[int], None]:
        def spied(player: int) -> None:
            networks = (gan.generator, gan.discriminator)
            seen.append([all(p.grad is not None for p in network.parameters()) for network in networks])
            seen.append([any(p.grad is not None for p in network.parameters()) for network in networks])
            update(player)

        return spied

    gan.update = spy(gan.update)
    fit(gan, steps=1)
    assert seen == [[False, True], [False, True], [True, False], [True, False]]


@pytest.mark.parametrize("k", [1, 2, 5])
def test_one_step_axis_for_every_k(k: int) -> None:
    trainer, _ = fit(tiny_gan(k=k), steps=7)
    assert trainer.global_step == 7
    assert trainer.fit_loop.total_batch_idx == 6


def test_schedulers_step_once_a_step() -> None:
    gan = tiny_gan(k=3, scheduler=lambda optimizer, steps: torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5))
    trainer, _ = fit(gan, steps=4)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]
    assert rates == pytest.approx([0.1 / 4, 0.2 / 4])
    assert [scheduler.interval for scheduler in trainer.lr_scheduler_configs] == ["step", "step"]  # for who monitors


def test_noise_depends_on_where_the_run_stands_alone() -> None:
    a, b = tiny_gan(), tiny_gan()
    fit(a, steps=2)
    torch.rand(100)  # disturb torch's random state
    fit(b, steps=2)
    assert same(weights(a), weights(b))
    c = tiny_gan(seed=1)
    fit(c, steps=2)
    assert not same(weights(a), weights(c))


def test_fixed_latents_travel_with_the_weights() -> None:
    gan = tiny_gan(num_fixed_latents=5)
    assert gan.fixed_latents.shape == (5, 3)
    assert "fixed_latents" in gan.state_dict()
    assert gan(gan.fixed_latents).shape == (5, 1, 4, 4)


def test_judge_sees_a_perfect_discriminator() -> None:
    gan = tiny_gan().eval()
    gan.discriminator = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 1))
    torch.nn.init.constant_(gan.discriminator[1].weight, 1.0)
    torch.nn.init.zeros_(gan.discriminator[1].bias)
    gan.sample = lambda n: -torch.ones(n, 1, 4, 4)
    figures = gan.judge((torch.ones(6, 1, 4, 4), torch.zeros(6)), 0)
    assert figures["accuracy"] == 1
    assert figures["probability_real"] > 0.999
    assert figures["probability_fake"] < 0.001
    assert figures["loss_generator"].item() == pytest.approx(16, rel=1e-3)

"""Algorithm 1, against Algorithm 1 written by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import LambdaCallback
from torch import Tensor, nn

from gan_lightning.ema import EMA
from gan_lightning.gan import GAN
from gan_lightning.losses import Minimax, NonSaturating, Relativistic
from gan_lightning.networks import mlp
from gan_lightning.penalties import R1, R1R2, R2
from gan_lightning.seeding import fold
from gan_lightning.simultaneous import SimultaneousGAN
from tests.helpers import Unconditional, fit, same, tiny_gan, weights


def algorithm_1(gan: GAN, data: Tensor, *, clip: float | None = None) -> None:
    """Train in place by Algorithm 1, except that G's update uses the images of D's last one where possible."""
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
                if gan.penalty and step % gan.penalty.interval == 0:
                    loss = loss + gan.penalty(gan.discriminator, minibatch, fake)
                (loss / parts).backward()
            if clip:
                nn.utils.clip_grad_norm_(gan.discriminator.parameters(), clip)
            discriminator_optimizer.step()
        generator_optimizer.zero_grad()
        for minibatch in real.chunk(parts):
            if parts > 1:
                fake = gan.generator(torch.randn(len(minibatch), 3))
            others = [gan.discriminator(minibatch)] if isinstance(gan.loss, Relativistic) else []
            (gan.loss.generator(gan.discriminator(fake), *others) / parts).backward()
        if clip:
            nn.utils.clip_grad_norm_(gan.generator.parameters(), clip)
        generator_optimizer.step()


def simultaneous_steps(gan: GAN, data: Tensor) -> None:
    """Train in place with both networks updated at once."""
    d, g = (list(network.parameters()) for network in (gan.discriminator, gan.generator))
    for step, real in enumerate(data):
        torch.manual_seed(fold(gan.seed, 0, step))
        fake = gan.generator(torch.randn(len(real), 3))
        real_logits, fake_logits = gan.discriminator(real), gan.discriminator(fake)
        others = [real_logits] if isinstance(gan.loss, Relativistic) else []
        loss = gan.loss.discriminator(real_logits, fake_logits)
        if gan.penalty and step % gan.penalty.interval == 0:
            loss = loss + gan.penalty(gan.discriminator, real, fake)
        gradients = torch.autograd.grad(loss, d, retain_graph=True)
        gradients += torch.autograd.grad(gan.loss.generator(fake_logits, *others), g)
        with torch.no_grad():
            for i, (parameter, gradient) in enumerate(zip(d + g, gradients, strict=True)):
                parameter.sub_((0.2 if i < len(d) else 0.1) * gradient)


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating(), Relativistic()])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("clip", [None, 0.05])
def test_training_is_algorithm_1(loss: Any, k: int, parts: int, clip: float | None) -> None:
    changes = {"k": k, "accumulate_grad_batches": parts, "loss": loss}
    gan = tiny_gan(**changes, gradient_clip_val=clip, gradient_clip_algorithm="norm")
    trainer, data = fit(gan, steps=4)
    expected = tiny_gan(**changes)
    algorithm_1(expected, data, clip=clip)
    assert same(weights(gan), weights(expected))
    assert trainer.global_step == 4


def batch_norm_discriminator() -> Unconditional:
    """Build a discriminator whose logits depend on the whole batch."""
    torch.manual_seed(1)
    return Unconditional(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.LeakyReLU(0.2), nn.Linear(8, 1))


@pytest.mark.parametrize(("kind", "by_hand"), [(GAN, algorithm_1), (SimultaneousGAN, simultaneous_steps)])
def test_real_and_generated_images_do_not_share_batch_statistics(kind: type[GAN], by_hand: Callable[..., None]) -> None:
    gan, expected = (tiny_gan(kind, discriminator=batch_norm_discriminator()) for _ in range(2))
    assert gan.uses_batch_statistics
    assert not tiny_gan().uses_batch_statistics
    _, data = fit(gan, steps=4)
    forward = expected.discriminator.forward
    # algorithm_1 has one pass for both kinds of images, 6 each
    expected.discriminator.forward = lambda images: torch.cat([forward(part) for part in images.split(6)])
    by_hand(expected, data)
    for name, value in weights(expected).items():
        torch.testing.assert_close(weights(gan)[name], value)


@pytest.mark.parametrize("loss", [Minimax(), Relativistic()])
@pytest.mark.parametrize("penalty", [None, R1(gamma=1.0)])
def test_both_networks_are_updated_at_once(loss: Any, penalty: R1 | None) -> None:
    gan, expected = (tiny_gan(SimultaneousGAN, loss=loss, penalty=penalty) for _ in range(2))
    trainer, data = fit(gan, steps=4)
    simultaneous_steps(expected, data)
    for a, b in zip(weights(gan).values(), weights(expected).values(), strict=True):
        torch.testing.assert_close(a, b)
    assert trainer.global_step == 4


@pytest.mark.parametrize("k", [1, 3])
def test_bf16_does_not_reuse_weights_from_before_an_update(k: int) -> None:
    changes = {"k": k, "penalty": R1(gamma=2.0)}
    gan, expected = tiny_gan(**changes), tiny_gan(**changes)
    _, data = fit(gan, steps=4, precision="bf16-mixed")
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        algorithm_1(expected, data)
    assert same(weights(gan), weights(expected))


@pytest.mark.parametrize("penalty", [R1(gamma=2.0), R2(gamma=2.0), R1R2(gamma=2.0), R1(gamma=2.0, interval=3)])
def test_a_penalty_is_added_to_the_discriminators_loss(penalty: R1) -> None:
    gan, expected, without = tiny_gan(penalty=penalty), tiny_gan(penalty=penalty), tiny_gan()
    _, data = fit(gan, steps=4)
    algorithm_1(expected, data)
    algorithm_1(without, data)
    assert same(weights(gan), weights(expected))
    assert not same(weights(gan.discriminator), weights(without.discriminator))


def slopes_between(discriminator: Any, real: Tensor, fake: Tensor) -> Tensor:
    """Penalize slopes between real and generated images, as WGAN-GP does, without detaching the generated ones."""
    assert real.dtype == fake.dtype
    between = torch.lerp(fake, real, 0.5).requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


def smooth_gan(**changes: Any) -> GAN:
    """Build a GAN whose discriminator has slopes that depend on the images."""
    gan = tiny_gan(**changes)
    gan.discriminator.layers[2] = nn.SiLU()
    return gan


@pytest.mark.parametrize("changes", [{}, {"k": 2}, {"kind": SimultaneousGAN}, {"accumulate_grad_batches": 2}])
def test_a_penalty_does_not_reach_the_generator(changes: dict[str, Any]) -> None:
    def detached(discriminator: Any, real: Tensor, fake: Tensor) -> Tensor:
        return slopes_between(discriminator, real, fake.detach())

    gans = [smooth_gan(penalty=penalty, **changes) for penalty in (slopes_between, detached)]
    for gan in gans:
        fit(gan, steps=3)
    assert same(*map(weights, gans))


@pytest.mark.parametrize("kind", [GAN, SimultaneousGAN])
@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_a_penalty_can_mix_real_and_generated_images(kind: type[GAN], precision: str) -> None:
    gan, without = smooth_gan(kind=kind, penalty=slopes_between), smooth_gan(kind=kind)
    for each in (gan, without):
        fit(each, steps=2, precision=precision)
    assert all(torch.isfinite(value).all() for value in weights(gan).values())
    assert not same(weights(gan.discriminator), weights(without.discriminator))


class ConditionalGenerator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = mlp.Generator(
            latent_dim=3, image_shape=[1, 4, 4], widths=[8, 8], negative_slope=0.2, batch_norm_eps=0.8
        )
        self.embedding = nn.Embedding(6, 3)
        self.labels: list[list[int]] = []

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        self.labels.append(labels.tolist())
        return self.network(z + self.embedding(labels))


class ConditionalDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = mlp.Discriminator(image_shape=[1, 4, 4], widths=[8], negative_slope=0.2)
        self.embedding = nn.Embedding(6, 16)
        self.labels: list[list[int]] = []

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        self.labels.append(labels.tolist())
        return self.network(images + self.embedding(labels).view_as(images))


ALL, FIRST, SECOND = [*range(6)], [0, 1, 2], [3, 4, 5]


@pytest.mark.parametrize(
    ("changes", "size", "generator", "discriminator"),
    [
        ({}, 6, [ALL], [2 * ALL, ALL]),
        ({"k": 2}, 3, [FIRST, SECOND], [2 * FIRST, 2 * SECOND, SECOND]),
        ({"accumulate_grad_batches": 2}, 3, 2 * [FIRST, SECOND], [2 * FIRST, 2 * SECOND, FIRST, SECOND]),
        ({"penalty": R1(gamma=1.0)}, 6, [ALL], [2 * ALL, ALL, ALL]),
        ({"penalty": R1R2(gamma=1.0)}, 6, [ALL], [2 * ALL, 2 * ALL, ALL]),
        ({"loss": Relativistic()}, 6, [ALL], [2 * ALL, ALL, ALL]),
        ({"kind": SimultaneousGAN, "penalty": R1R2(gamma=1.0)}, 6, [ALL], [2 * ALL, 2 * ALL]),
    ],
)
def test_labels_reach_both_networks(
    changes: dict[str, Any], size: int, generator: list[list[int]], discriminator: list[list[int]]
) -> None:
    gan = tiny_gan(generator=ConditionalGenerator(), discriminator=ConditionalDiscriminator(), **changes)
    before = [weights(network.embedding) for network in (gan.generator, gan.discriminator)]
    fit(gan, steps=1, size=size)
    assert gan.generator.labels == generator
    assert gan.discriminator.labels == discriminator
    after = [weights(network.embedding) for network in (gan.generator, gan.discriminator)]
    assert not any(map(same, before, after))


def test_the_fixed_grid_has_a_row_per_class() -> None:
    gan, without = tiny_gan(num_classes=3, num_fixed_latents=7), tiny_gan(num_fixed_latents=7)
    assert gan.fixed_labels is not None
    assert gan.fixed_labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert torch.equal(gan.fixed_latents, gan.fixed_latents[:3].repeat(3, 1))
    assert tiny_gan(num_classes=1000, num_fixed_latents=7).fixed_labels.tolist() == [*range(7)]
    assert without.fixed_labels is None
    assert "fixed_labels" not in without.state_dict()
    assert without.fixed_latents.shape == (7, 3)


def test_the_discriminators_weights_are_constrained_after_each_of_its_updates() -> None:
    class Bound:
        calls = 0

        def __call__(self, *_: Any) -> Tensor:
            return torch.zeros(())

        def constrain(self, network: nn.Module) -> None:
            self.calls += 1
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.clamp_(-0.01, 0.01)

    gan = tiny_gan(penalty=Bound(), k=3)
    fit(gan, steps=2)
    assert gan.penalty.calls == 6
    assert max(p.abs().max() for p in gan.discriminator.parameters()) <= 0.01
    assert max(p.abs().max() for p in gan.generator.parameters()) > 0.01


def test_labels_choose_what_is_generated_and_measured() -> None:
    gan = tiny_gan(generator=ConditionalGenerator(), discriminator=ConditionalDiscriminator(), loss=Relativistic())
    gan.eval()
    z, labels = torch.randn(1, 3).expand(4, 3), torch.tensor([0, 0, 1, 2])
    assert len(gan(z, labels).unique(dim=0)) == 3
    assert gan.fake_images(labels).shape == (4, 1, 4, 4)
    gan.adversarial_metrics((torch.zeros(4, 1, 4, 4), labels), 0)
    assert gan.generator.labels == 3 * [labels.tolist()]
    assert gan.discriminator.labels == 2 * [labels.tolist()]


@pytest.mark.parametrize("kind", [GAN, SimultaneousGAN])
def test_frozen_weights_of_the_discriminator_stay_frozen(kind: type[GAN]) -> None:
    gan = tiny_gan(kind)
    frozen = gan.discriminator.layers[1].requires_grad_(False)
    before = frozen.weight.clone()
    fit(gan, steps=3)
    assert torch.equal(frozen.weight, before)
    assert [p.requires_grad for p in gan.discriminator.parameters()] == [False, False, True, True]


@pytest.mark.parametrize(("kind", "by_hand"), [(GAN, algorithm_1), (SimultaneousGAN, simultaneous_steps)])
@pytest.mark.parametrize("penalty", [R1(gamma=2.0), R2(gamma=2.0), R1R2(gamma=2.0, interval=3)])
def test_compiled_networks_train_to_the_same_weights(
    penalty: R1, kind: type[GAN], by_hand: Callable[[GAN, Tensor], None]
) -> None:
    """With a backend that traces as the default one does and needs no compiler; neither has a double backward."""
    gan, expected = tiny_gan(kind, penalty=penalty), tiny_gan(kind, penalty=penalty)
    for network in (gan.generator, gan.discriminator):
        network.compile(backend="aot_eager", dynamic=False)
    images = torch.randn(4, 1, 4, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(gan.discriminator(images).sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        slope.sum().backward()
    _, data = fit(gan, steps=4)
    by_hand(expected, data)
    for name, value in weights(expected).items():
        torch.testing.assert_close(weights(gan)[name], value)


def test_the_ema_follows_the_generator_and_does_not_affect_it() -> None:
    def ema(network: nn.Module) -> EMA:
        return EMA(network, half_life=2, rampup_ratio=1e9, update_interval=1)

    gan, without = tiny_gan(ema=ema, latent_scale=1.5), tiny_gan()
    mean = weights(without.generator)
    for steps in range(1, 4):  # the same run, longer and longer
        without = tiny_gan()
        fit(without, steps=steps)
        decay = 0.5**0.5
        mean = {n: decay * mean[n] + (1 - decay) * v for n, v in weights(without.generator).items()}
    fit(gan, steps=3)
    assert same(weights(gan.generator), weights(without.generator))
    assert gan.ema is not None
    found = weights(gan.ema.network)
    for name in (n for n in mean if not n.endswith("num_batches_tracked")):
        torch.testing.assert_close(found[name], mean[name])


@pytest.mark.parametrize("ema", [None, lambda network: EMA(network, half_life=1, rampup_ratio=1)])
def test_forward_scales_the_noise(ema: Any) -> None:
    gan = tiny_gan(ema=ema, latent_scale=1.5).eval()
    network = gan.ema.network if gan.ema else gan.generator
    for parameter in network.parameters():
        nn.init.normal_(parameter)  # the EMA differs from the generator
    z = torch.randn(4, 3)
    assert torch.equal(gan(z), network(1.5 * z))


def test_accumulated_minibatches_are_one_large_one() -> None:
    """The discriminator's gradient over two halves is that over the whole, for equal noise."""
    gan = tiny_gan(accumulate_grad_batches=2)
    gan.generator.eval()  # no batch statistics
    real, z, labels = torch.rand(8, 1, 4, 4), torch.randn(8, 3), torch.zeros(8)
    noise = iter([*z.chunk(2), z])
    gan.fake_images = lambda labels: gan.generator(next(noise), labels)
    gan.apply_gradient = lambda network: None
    gan.manual_backward = lambda loss: loss.backward()
    gradients = []
    for parts in (2, 1):
        gan.zero_grad()
        gan.accumulate_grad_batches = parts
        gan.update_discriminator(real, labels)
        gradients.append([p.grad.clone() for p in gan.discriminator.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_the_generators_loss_is_reported_over_all_accumulated_minibatches() -> None:
    losses, reported = [], []

    class Recorded(NonSaturating):
        def generator(self, fake_logits: Tensor) -> Tensor:
            losses.append(super().generator(fake_logits))
            return losses[-1]

    def report(trainer: Any, gan: GAN, outputs: dict[str, Tensor], *_: Any) -> None:
        reported.append(outputs["loss/generator"])

    gan = tiny_gan(loss=Recorded(), accumulate_grad_batches=3)
    fit(gan, steps=1, callbacks=[LambdaCallback(on_train_batch_end=report)])
    assert len({loss.item() for loss in losses}) == 3
    torch.testing.assert_close(reported, [torch.stack(losses).detach().mean()])


def test_clipping_by_value_bounds_every_entry() -> None:
    gan = tiny_gan(gradient_clip_val=1e-3, gradient_clip_algorithm="value")
    before = weights(gan.discriminator)
    fit(gan, steps=1)
    moves = [(gan.discriminator.state_dict()[name] - value).abs().max() for name, value in before.items()]
    assert max(moves) == pytest.approx(0.2 * 1e-3, rel=1e-2)


@pytest.mark.parametrize(("k", "parts", "passes"), [(1, 1, 1), (3, 1, 3), (1, 2, 4)])
def test_one_generator_pass_serves_both_updates_where_it_can(k: int, parts: int, passes: int) -> None:
    gan, calls = tiny_gan(k=k, accumulate_grad_batches=parts), []
    gan.generator.register_forward_hook(lambda *_: calls.append(1))
    fit(gan, steps=1)
    assert len(calls) == passes


def test_only_the_updated_network_has_gradients() -> None:
    gan, found = tiny_gan(), []
    apply_gradient = gan.apply_gradient

    def spy(network: nn.Module) -> None:
        for each in (gan.generator, gan.discriminator):
            assert {p.grad is not None for p in each.parameters()} == {each is network}
        found.append(network)
        apply_gradient(network)
        assert all(p.grad is None for p in gan.parameters())

    gan.apply_gradient = spy
    fit(gan, steps=2)
    assert found == 2 * [gan.discriminator, gan.generator]


@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_step_is_one_generator_update_for_every_k(k: int) -> None:
    trainer, _ = fit(tiny_gan(k=k), steps=7)
    assert trainer.global_step == 7
    assert trainer.fit_loop.total_batch_idx == 6


def test_schedulers_step_once_a_step() -> None:
    gan = tiny_gan(k=3, scheduler=lambda optimizer, steps: torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5))
    trainer, _ = fit(gan, steps=4)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]
    assert rates == pytest.approx([0.1 / 4, 0.2 / 4])
    assert [scheduler.interval for scheduler in trainer.lr_scheduler_configs] == ["step", "step"]  # for monitors


def test_noise_depends_on_the_seed_and_the_step_only() -> None:
    a, b = tiny_gan(), tiny_gan()
    fit(a, steps=2)
    torch.rand(100)  # disturb torch's random state
    fit(b, steps=2)
    assert same(weights(a), weights(b))
    c = tiny_gan(seed=1)
    fit(c, steps=2)
    assert not same(weights(a), weights(c))


def test_fixed_latents_are_saved_with_the_weights() -> None:
    gan = tiny_gan(num_fixed_latents=5)
    assert gan.fixed_latents.shape == (5, 3)
    assert "fixed_latents" in gan.state_dict()
    assert gan(gan.fixed_latents).shape == (5, 1, 4, 4)


def perfect_gan(loss: Any) -> GAN:
    """Build a GAN whose discriminator's logit is 16 for white images and -16 for generated ones."""
    gan = tiny_gan(loss=loss).eval()
    gan.discriminator = Unconditional(nn.Flatten(), nn.Linear(16, 1))
    nn.init.constant_(gan.discriminator[1].weight, 1.0)
    nn.init.zeros_(gan.discriminator[1].bias)
    gan.fake_images = lambda labels: -torch.ones(len(labels), 1, 4, 4)
    return gan


def test_metrics_of_a_perfect_discriminator() -> None:
    metrics = perfect_gan(NonSaturating()).adversarial_metrics((torch.ones(6, 1, 4, 4), torch.zeros(6)), 0)
    assert metrics["accuracy"] == 1
    assert metrics["probability_real"] > 0.999
    assert metrics["probability_fake"] < 0.001
    assert metrics["loss_generator"].item() == pytest.approx(16, rel=1e-3)


LOSSES = {"loss_discriminator", "loss_generator"}


@pytest.mark.parametrize(
    ("loss", "names"),
    [
        (Minimax(), LOSSES | {"probability_real", "probability_fake", "accuracy"}),
        (NonSaturating(), LOSSES | {"probability_real", "probability_fake", "accuracy"}),
        (Relativistic(), LOSSES | {"logit_real", "logit_fake"}),
    ],
)
def test_probabilities_are_reported_only_where_logits_give_them(loss: Any, names: set[str]) -> None:
    metrics = perfect_gan(loss).adversarial_metrics((torch.ones(6, 1, 4, 4), torch.zeros(6)), 0)
    assert metrics.keys() == names
    if "logit_real" in names:
        assert (metrics["logit_real"], metrics["logit_fake"]) == (16, -16)

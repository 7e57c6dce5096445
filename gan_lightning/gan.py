"""Algorithm 1 of "Generative Adversarial Nets" (Goodfellow et al., 2014)."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from gan_lightning.seeding import reseed

Batch = tuple[Tensor, Tensor]  # images (N, C, H, W) in [-1, 1], labels (N,)


class Loss(Protocol):
    """What the two players minimise; see :mod:`gan_lightning.losses`."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor: ...  # noqa: D102
    @property
    def generator(self) -> Callable[..., Tensor]: ...  # noqa: D102


class GAN(LightningModule):
    """A generator and a discriminator, and the game between them.

    One training step is one iteration of Algorithm 1: k discriminator updates, then one generator update. Only
    the latter counts, so ``trainer.global_step``, ``trainer.max_steps`` and every log share one step axis.

    Args:
        generator: Maps noise (N, latent_dim) to images (N, C, H, W) in [-1, 1].
        discriminator: Maps images (N, C, H, W) to logits (N, 1).
        latent: The prior p(z): ``latent(n, device=..., generator=...)`` draws noise (n, latent_dim).
        loss: What each of the two minimises.
        penalty: What D minimises besides: ``penalty(discriminator, real, fake)``; see :mod:`gan_lightning.penalties`.
        average: Makes the generator's moving average, whose images are then shown, scored and sampled.
        generator_optimizer: Makes an optimizer from the generator's parameters.
        discriminator_optimizer: Makes an optimizer from the discriminator's parameters.
        scheduler: Makes a learning-rate scheduler from an optimizer and the run's number of steps. None: constant.
        k: Discriminator updates in a step.
        gradient_clip_val: Bound on each network's gradient, None for no clipping.
        gradient_clip_algorithm: What is bounded: "norm" (of the whole gradient) or "value" (of each entry).
        accumulate_grad_batches: Minibatches whose gradients are averaged before an update.
        num_fixed_latents: How many noise vectors are kept, to watch the same images grow.
        seed: Fixes the noise and the fixed latents.
    """

    fixed_latents: Tensor
    steps_per_batch = 1  # training steps that Lightning's loop takes at once; see gan_lightning.overhead
    interrupted = False  # the loop waits for no more of them

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
        latent: Callable[..., Tensor],
        loss: Loss,
        penalty: Callable[..., Tensor] | None = None,
        average: Callable[[nn.Module], nn.Module] | None = None,
        generator_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        discriminator_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer, float], LRScheduler] | None = None,
        k: int,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
        accumulate_grad_batches: int = 1,
        num_fixed_latents: int = 64,
        seed: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = generator, discriminator
        self.latent, self.loss, self.penalty, self.scheduler = latent, loss, penalty, scheduler
        self.average = average(generator) if average else None
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.gradient_clip_val, self.gradient_clip_algorithm = gradient_clip_val, gradient_clip_algorithm
        self.k, self.accumulate_grad_batches, self.seed = k, accumulate_grad_batches, seed
        fixed_latents = latent(num_fixed_latents, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("fixed_latents", fixed_latents)

    @property
    def minibatches_per_step(self) -> int:
        """How many minibatches of real images a training step takes."""
        return self.k * self.accumulate_grad_batches

    def forward(self, z: Tensor) -> Tensor:
        """Map noise (N, latent_dim) to images (N, C, H, W) in [-1, 1], by the averaged generator if there is one."""
        return (self.average or self.generator)(z)

    # Algorithm 1

    def iteration(self, real: Tensor) -> dict[str, Tensor]:
        """Update the discriminator k times, then the generator once; give both losses and the last logits (m, 1)."""
        for minibatches in real.chunk(self.k):
            seen, fake = self.update_discriminator(minibatches)
        if self.accumulate_grad_batches == 1:
            # The paper draws anew here. G has not moved since it made these images, so one pass serves both updates.
            fakes: Iterable[Tensor] = [fake]
        else:
            fakes = (self.sample(len(fake)) for _ in range(self.accumulate_grad_batches))
        return seen | self.update_generator(minibatches, fakes)

    def update_discriminator(self, real: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Ascend the stochastic gradient of 1/m Σ log D(x) + log(1 - D(G(z))) in D's parameters."""
        for minibatch in real.chunk(self.accumulate_grad_batches):
            fake = self.sample(len(minibatch))
            real_logits, fake_logits = self.discriminator(torch.cat([minibatch, fake.detach()])).chunk(2)
            loss = self.loss.discriminator(real_logits, fake_logits)
            self.manual_backward((loss + self.penalise(minibatch, fake.detach())) / self.accumulate_grad_batches)
        self.update(player=1)
        seen = {"loss/discriminator": loss, "logits/real": real_logits, "logits/fake": fake_logits}
        return {name: value.detach() for name, value in seen.items()}, fake

    def penalise(self, real: Tensor, fake: Tensor) -> Tensor | float:
        """Give the discriminator's penalty, a scalar; 0 in the steps that a lazy one leaves out."""
        if self.penalty is None or self.global_step % getattr(self.penalty, "every_n_steps", 1):
            return 0.0
        return self.penalty(self.discriminator.forward, real, fake)  # eager: a compiled one has no double backward

    def update_generator(self, real: Tensor, fakes: Iterable[Tensor]) -> dict[str, Tensor]:
        """Descend the stochastic gradient of 1/m Σ log(1 - D(G(z))), or its stand-in, in G's parameters."""
        taught = [weight.requires_grad_(False) for weight in self.discriminator.parameters() if weight.requires_grad]
        for minibatch, fake in zip(real.chunk(self.accumulate_grad_batches), fakes, strict=True):
            loss = self.generator_loss(self.discriminator(fake), partial(self.discriminator, minibatch))
            self.manual_backward(loss / self.accumulate_grad_batches)
        for weight in taught:
            weight.requires_grad_(True)
        self.update(player=0)
        return {"loss/generator": loss.detach()}

    def generator_loss(self, fake_logits: Tensor, real_logits: Callable[[], Tensor]) -> Tensor:
        """Give the generator's loss, a scalar; a loss of pairs is shown the real images' logits as well."""
        pairs = getattr(self.loss, "pairs", False)
        return self.loss.generator(fake_logits, real_logits()) if pairs else self.loss.generator(fake_logits)

    def sample(self, n: int) -> Tensor:
        """Draw n images (n, C, H, W) from the generator."""
        return self.generator(self.latent(n, device=self.device))

    # What Lightning leaves to manual optimization

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Take the steps whose real images a batch holds; give what the last of them saw."""
        for real in batch[0].chunk(self.steps_per_batch):
            # Noise and dropout depend on where the run stands, so that a resumed run draws the same.
            reseed(self.device, self.seed, self.global_rank, self.global_step)
            seen = self.iteration(real)
            if self.interrupted:
                break
        return seen

    def update(self, player: int) -> None:
        """Clip a player's gradient, follow it, forget it; the generator is player 0 and its update the step."""
        optimizer: LightningOptimizer = self.optimizers()[player]  # type: ignore[index]
        if self.gradient_clip_val:
            clip = clip_grad_value_ if self.gradient_clip_algorithm == "value" else clip_grad_norm_
            clip((self.generator, self.discriminator)[player].parameters(), self.gradient_clip_val)
        if player == 0:
            optimizer.step()
            if self.average:
                self.average.update(self.generator, self.global_step)  # type: ignore[operator]
            for scheduler in self.lr_schedulers() or []:  # type: ignore[union-attr]
                scheduler.step()
        else:  # not by the wrapper, whose every step() Lightning counts
            self.trainer.strategy.optimizer_step(optimizer.optimizer, closure=lambda: None)
        optimizer.zero_grad()

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        """Make the generator's optimizer and the discriminator's, in this order, and their schedulers."""
        players = (self.generator_optimizer, self.generator), (self.discriminator_optimizer, self.discriminator)
        optimizers = [optimizer(network.parameters()) for optimizer, network in players]
        steps = self.trainer.estimated_stepping_batches
        schedulers = [self.scheduler(optimizer, steps) for optimizer in optimizers] if self.scheduler else []
        return optimizers, [{"scheduler": scheduler, "interval": "step"} for scheduler in schedulers]

    # Held-out images

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log how the game stands on validation images; see :meth:`judge`."""
        figures = {f"validation/{name}": value for name, value in self.judge(batch, batch_idx).items()}
        self.log_dict(figures, logger=False, sync_dist=True, batch_size=len(batch[0]))

    def judge(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Give both losses, mean D(x) and D(G(z)), and D's accuracy, of G itself: not of its average."""
        real, _ = batch
        reseed(self.device, self.seed, self.global_rank, batch_idx)
        real_logits, fake_logits = (self.discriminator(x).float() for x in (real, self.sample(len(real))))
        return {
            "loss_discriminator": self.loss.discriminator(real_logits, fake_logits),
            "loss_generator": self.generator_loss(fake_logits, lambda: real_logits),
            "probability_real": real_logits.sigmoid().mean(),
            "probability_fake": fake_logits.sigmoid().mean(),
            "accuracy": torch.cat([real_logits > 0, fake_logits <= 0]).float().mean(),
        }

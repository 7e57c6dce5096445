"""Algorithm 1 of "Generative Adversarial Nets" (Goodfellow et al., 2014) as a LightningModule."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

import gan_lightning
from gan_lightning.ranks import gather, own_rows, random_step
from gan_lightning.seeding import reseed

Batch = tuple[Tensor, Tensor]  # images (N, C, H, W) in [-1, 1], labels (N,)
Outputs = dict[str, Tensor]  # what a step returns to the callbacks: losses and logits
CLIP: dict[str, Callable[..., Any]] = {"norm": clip_grad_norm_, "value": clip_grad_value_}


class Loss(Protocol):
    """What the two networks minimize; see :mod:`gan_lightning.losses`."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor: ...  # noqa: D102
    @property  # its arguments differ between losses
    def generator(self) -> Callable[..., Tensor]: ...  # noqa: D102


class GAN(LightningModule):
    """A generator G and a discriminator D, trained by Algorithm 1.

    One training step is one iteration: k updates of D, then one of G. Only the update of G is counted, so
    ``trainer.global_step``, ``trainer.max_steps`` and every log share one step axis. The data module samples the real
    images of all k updates as one batch.

    Args:
        generator: Maps noise (N, latent_dim) and labels (N,) to images (N, C, H, W) in [-1, 1].
        discriminator: Maps images (N, C, H, W) and labels (N,) to logits (N, 1).
        prior: The distribution p(z): ``prior(n, device=..., generator=...)`` returns noise (n, latent_dim).
        loss: What each network minimizes.
        penalty: Term added to D's loss: ``penalty(discriminator, real, fake)``; see :mod:`gan_lightning.penalties`.
        ema: Builds the moving average of G, which then generates the images that are logged, evaluated and sampled.
        latent_scale: Factor on the noise of images that are logged, evaluated and sampled. Averaged weights generate
            images that vary less than the data; a factor above 1 makes up for it: the truncation trick of BigGAN (Brock
            et al., 2019) in reverse.
        generator_optimizer: Builds an optimizer from G's parameters.
        discriminator_optimizer: Builds an optimizer from D's parameters.
        scheduler: Builds a learning-rate scheduler from an optimizer and the run's number of steps; None: constant.
        k: Updates of D per step.
        gradient_clip_val: Bound on each network's gradient; None or 0: no clipping.
        gradient_clip_algorithm: "norm" bounds the norm of the whole gradient, "value" each entry.
        accumulate_grad_batches: Minibatches whose gradients are averaged before an update.
        num_fixed_latents: Number of fixed noise vectors for the sample grid; rounded up to as many for each class.
        num_classes: Classes that both networks are conditioned on; 0: none.
        seed: Determines the noise and the fixed latents.

    Raises:
        ValueError: If an argument is out of range.
    """

    fixed_latents: Tensor
    fixed_labels: Tensor | None

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
        prior: Callable[..., Tensor],
        loss: Loss,
        penalty: Callable[..., Tensor] | None = None,
        ema: Callable[[nn.Module], nn.Module] | None = None,
        latent_scale: float = 1.0,
        generator_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        discriminator_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer, float], LRScheduler] | None = None,
        k: int,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str = "norm",
        accumulate_grad_batches: int = 1,
        num_fixed_latents: int = 64,
        num_classes: int = 0,
        seed: int,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("k", k, 1),
            ("accumulate_grad_batches", accumulate_grad_batches, 1),
            ("num_fixed_latents", num_fixed_latents, 1),
            ("num_classes", num_classes, 0),
            ("latent_scale", latent_scale, 0),
            ("gradient_clip_val", gradient_clip_val or 0, 0),
            ("seed", seed, 0),
        ):
            if not least <= value < math.inf:
                raise ValueError(f"{name}={value}: must be at least {least} and finite")
        if gradient_clip_algorithm not in CLIP:
            raise ValueError(f"gradient_clip_algorithm={gradient_clip_algorithm}: must be one of {', '.join(CLIP)}")
        self.automatic_optimization = False  # the updates are those of step(), with Lightning's manual_backward()
        self.generator, self.discriminator = generator, discriminator
        self.prior, self.loss, self.penalty, self.scheduler = prior, loss, penalty, scheduler
        self.ema = ema(generator) if ema else None
        self.latent_scale, self.k, self.seed = latent_scale, k, seed
        self.gradient_clip_val, self.gradient_clip_algorithm = gradient_clip_val, gradient_clip_algorithm
        self.accumulate_grad_batches, self.num_classes = accumulate_grad_batches, num_classes
        self.uses_batch_statistics = any(isinstance(module, _BatchNorm) for module in discriminator.modules())
        # Built here and not in configure_optimizers, so that wrong arguments are found before any data is read.
        self.generator_optimizer = generator_optimizer(generator.parameters())
        self.discriminator_optimizer = discriminator_optimizer(discriminator.parameters())
        rows = min(num_classes, num_fixed_latents) or 1  # a class each, of which all have the same noise
        columns = math.ceil(num_fixed_latents / rows)
        columns = columns if columns <= 10 else 8 * math.ceil(columns / 8)  # several rows of 8 for each class
        fixed_latents = prior(columns, generator=torch.Generator().manual_seed(seed)).repeat(rows, 1)
        self.register_buffer("fixed_latents", fixed_latents)
        self.register_buffer("fixed_labels", torch.arange(rows).repeat_interleave(columns) if num_classes else None)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1] generated from ``latent_scale * z``, by G's EMA if there is one."""
        return (self.ema or self.generator)(self.latent_scale * z, labels)

    # Algorithm 1. update_* changes a network; backward_* adds the gradient of one minibatch.

    def training_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """Run one iteration on noise seeded by (seed, step), which a resumed run repeats; see :meth:`step`."""
        images, labels = batch
        with random_step(self.device, self.seed, self.global_step):
            return self.step(images.to(self.dtype), labels)

    def step(self, images: Tensor, labels: Tensor) -> Outputs:
        """Run one iteration of Algorithm 1: k updates of D, then one update of G.

        Args:
            images: Real images (k * m, C, H, W) in [-1, 1], m of them for each update of D.
            labels: Their labels (k * m,).

        Returns:
            ``loss/discriminator``, without the penalty, ``loss/penalty`` if there is one in this step, and
            ``logits/real`` and ``logits/fake`` (N, 1) of D's last minibatch, of all devices; ``loss/generator``.
        """
        minibatches = chunk(images, labels, self.k)
        for minibatch in minibatches[:-1]:
            self.update_discriminator(*minibatch)
        outputs, fake = self.update_discriminator(*minibatches[-1])
        return outputs | self.update_generator(*minibatches[-1], fake)

    def update_discriminator(self, real: Tensor, labels: Tensor) -> tuple[Outputs, Tensor]:
        """Ascend the stochastic gradient of 1/m Σ [log D(x) + log(1 - D(G(z)))] with respect to D's parameters.

        ``loss`` may replace this objective.

        Returns:
            As :meth:`backward_discriminator`, of the last of the ``accumulate_grad_batches`` minibatches.
        """
        chunks = chunk(real, labels, self.accumulate_grad_batches)
        results = [self.backward_discriminator(*part) for part in chunks]
        self.apply_gradient(self.discriminator)
        return results[-1]

    def backward_discriminator(self, real: Tensor, labels: Tensor) -> tuple[Outputs, Tensor]:
        """Add the gradient of D's loss and penalty; return loss and logits, and the images, attached to G's graph."""
        fake = self.fake_images(labels)
        real_logits, fake_logits = self.discriminate(real, fake.detach(), labels)
        loss = self.loss.discriminator(real_logits, fake_logits)
        penalty = self.penalize(real, fake.detach(), labels)
        self.manual_backward((loss + penalty) / self.accumulate_grad_batches)
        outputs = {"loss/discriminator": loss, "loss/penalty": penalty}
        return detached(outputs | {"logits/real": real_logits, "logits/fake": fake_logits}), fake

    def discriminate(self, real: Tensor, fake: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return D's logits of real and of generated images, in one pass unless it uses batch statistics.

        Batch normalization would mix the statistics of real and generated images.

        Returns:
            Two tensors (N, 1), where N counts the images of all devices, so that losses are of the global batch.
        """
        if self.uses_batch_statistics:
            real_logits, fake_logits = self.discriminator(real, labels), self.discriminator(fake, labels)
        else:
            real_logits, fake_logits = self.discriminator(torch.cat([real, fake]), labels.repeat(2)).chunk(2)
        real_logits, fake_logits = gather(real_logits, fake_logits)
        return real_logits, fake_logits

    def penalize(self, real: Tensor, fake: Tensor, labels: Tensor) -> Tensor | float:
        """Return the penalty on D, a scalar; 0 in a step without one."""
        if self.penalty is None or not self.penalty_is_due():
            return 0.0

        def discriminator(images: Tensor) -> Tensor:
            # .forward is not compiled: torch.compile has no second derivatives
            return self.discriminator.forward(images, labels.repeat(len(images) // len(labels)))

        return self.penalty(discriminator, real, fake)

    def penalty_is_due(self) -> bool:
        """Return whether a penalty is evaluated in this step: every ``interval`` steps."""
        return self.global_step % getattr(self.penalty, "interval", 1) == 0

    def update_generator(self, real: Tensor, labels: Tensor, fake: Tensor) -> Outputs:
        """Descend the stochastic gradient of 1/m Σ log(1 - D(G(z))), or its substitute, with respect to G's parameters.

        The paper samples new noise here. G has not moved since it generated ``fake``, so one pass serves both updates.
        """
        with self.toggled_optimizer(self.generator_optimizer):  # no gradients for D's parameters
            chunks = chunk(real, labels, self.accumulate_grad_batches)
            losses = [self.backward_generator(*part, fake if len(chunks) == 1 else None) for part in chunks]
        self.apply_gradient(self.generator)
        return {"loss/generator": torch.stack(losses).mean()}

    def backward_generator(self, real: Tensor, labels: Tensor, fake: Tensor | None) -> Tensor:
        """Add the gradient of G's loss on ``fake``, or on new images; return the loss, a scalar."""
        fake = self.fake_images(labels) if fake is None else fake
        images = [fake, real] if self.needs_real_logits else [fake]
        loss = self.generator_loss(*gather(*[self.discriminator(x, labels) for x in images]))
        self.manual_backward(loss / self.accumulate_grad_batches)
        return loss.detach()

    @property
    def needs_real_logits(self) -> bool:
        """Whether G's loss depends on the logits of real images."""
        return getattr(self.loss, "needs_real_logits", False)

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return G's loss, a scalar, of logits (N, 1) of generated and, if it needs them, of real images."""
        return self.loss.generator(fake_logits, *([real_logits] if self.needs_real_logits else []))

    def fake_images(self, labels: Tensor) -> Tensor:
        """Return images (N, C, H, W) generated from N new noise samples z ~ p(z), one per label."""
        z = own_rows(self.prior, len(labels), device=self.device).to(self.dtype)
        return self.generator(z, labels).to(self.dtype)  # bf16-mixed may return bf16

    # What manual optimization has to do itself

    def apply_gradient(self, network: nn.Module) -> None:
        """Clip a network's gradient, step its optimizer, and reset the gradient; for G, complete the step.

        Each ``step()`` of Lightning's optimizers counts as a training step, so D's is called without it.
        """
        g_optimizer, d_optimizer = self.optimizers()  # type: ignore[attr-defined]
        if self.gradient_clip_val:
            CLIP[self.gradient_clip_algorithm](network.parameters(), self.gradient_clip_val)
        if network is self.discriminator:
            self.trainer.strategy.optimizer_step(d_optimizer.optimizer, closure=lambda: None)  # gradients are ready
            d_optimizer.zero_grad()
            if constrain := getattr(self.penalty, "constrain", None):  # D's weights, in place of its gradients
                constrain(network)
        else:
            g_optimizer.step()
            g_optimizer.zero_grad()
            if self.ema:
                self.ema.update(self.generator, self.global_step)  # type: ignore[operator]
            for scheduler in self.lr_schedulers() or []:  # type: ignore[union-attr]
                scheduler.step()

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        """Return the optimizers of G and D, in this order, and their schedulers."""
        optimizers = [self.generator_optimizer, self.discriminator_optimizer]
        steps = self.trainer.estimated_stepping_batches
        schedulers = [self.scheduler(optimizer, steps) for optimizer in optimizers] if self.scheduler else []
        return optimizers, [{"scheduler": scheduler, "interval": "step"} for scheduler in schedulers]

    # Held-out images

    def on_validation_start(self) -> None:
        """Set the buffers of all devices (BatchNorm's statistics) to the first one's: checkpoints hold only those."""
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log :meth:`adversarial_metrics` of validation images."""
        metrics = {f"validation/{name}": value for name, value in self.adversarial_metrics(batch, batch_idx).items()}
        weight = len(batch[0]) * self.trainer.world_size  # Lightning averages these over devices as whole numbers
        self.log_dict(metrics, logger=False, sync_dist=True, batch_size=weight)

    def adversarial_metrics(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return both losses and D's outputs for real and generated images, from G and not its EMA.

        Mean D(x), mean D(G(z)) and D's accuracy if the loss makes the sigmoid of a logit a probability, else the mean
        logits; all scalars. Reseeds torch's default generators; the networks stay in their mode.
        """
        images, labels = batch
        reseed(self.device, self.seed, self.global_rank, batch_idx)
        real, fake = (self.discriminator(x, labels).float() for x in (images.to(self.dtype), self.fake_images(labels)))
        metrics = {
            "loss_discriminator": self.loss.discriminator(real, fake),
            "loss_generator": self.generator_loss(fake, real),
        }
        if not getattr(self.loss, "gives_probabilities", False):
            return metrics | {"logit_real": real.mean(), "logit_fake": fake.mean()}
        return metrics | {
            "probability_real": real.sigmoid().mean(),
            "probability_fake": fake.sigmoid().mean(),
            "accuracy": torch.cat([real > 0, fake <= 0]).float().mean(),
        }

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: Path | str, map_location: Any = None, *, trust: str | Iterable[str] = ()
    ) -> "GAN":
        """Return the GAN stored in a checkpoint, with its trained weights; see :func:`gan_lightning.load`."""
        gan = gan_lightning.load(checkpoint_path, trust=trust)
        return gan if map_location is None else gan.to(map_location)


def detached(outputs: dict[str, Tensor | float]) -> Outputs:
    """Return the tensors among a step's outputs, without their graphs."""
    return {name: value.detach() for name, value in outputs.items() if isinstance(value, Tensor)}


def chunk(images: Tensor, labels: Tensor, chunks: int) -> list[Batch]:
    """Return a batch as a list of equal chunks."""
    return list(zip(images.chunk(chunks), labels.chunk(chunks), strict=True))

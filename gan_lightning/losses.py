"""The losses of both networks, as functions of the discriminator's logits.

With D(x) = sigmoid(logit), log D(x) = -softplus(-logit) and log(1 - D(x)) = -softplus(logit). Written this way, every
loss and its gradient stay finite however certain the discriminator is. The losses without a sigmoid work on the logit
itself, which their papers call D(x) or the critic.

A loss is a class with two methods and, if they are true, three flags:

- ``needs_real_logits``: the generator's loss takes the logits of real images as its second argument.
- ``gives_probabilities``: the sigmoid of a logit is the probability that the image is real, apart from label smoothing.
- ``needs_lipschitz``: the loss is unbounded below unless D's slope is bounded, by a penalty or spectral normalization.
"""

from torch import Tensor
from torch.nn.functional import relu, softplus


class Minimax:
    """The two-player game of the paper's equation 1: the minimum over G of the maximum over D of V(D, G)."""

    gives_probabilities = True

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the mean of -log D(x) - log(1 - D(G(z))), a scalar, of logits (N, 1) and (M, 1).

        It is log 4 once D is 1/2 everywhere.
        """
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator(self, fake_logits: Tensor) -> Tensor:
        """Return the mean of log(1 - D(G(z))), a scalar, of logits (N, 1); it saturates while D rejects the images."""
        return -softplus(fake_logits).mean()


class NonSaturating(Minimax):
    """The heuristic of the paper's section 3: the generator maximizes log D(G(z)) instead.

    Args:
        label_smoothing: s of one-sided label smoothing (Salimans et al., Improved Techniques for Training GANs, 2016,
            section 3.4): D's target for real images is 1 - s, and 0 for generated ones; at least 0 and below 1.

    Raises:
        ValueError: If it is out of range.
    """

    label_smoothing = 0.0  # of subclasses with a constructor of their own

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must be at least 0 and below 1")
        self.label_smoothing = label_smoothing

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the mean of -(1 - s) log D(x) - s log(1 - D(x)) - log(1 - D(G(z))), of logits (N, 1) and (M, 1)."""
        loss = super().discriminator(real_logits, fake_logits)
        # log D(x) - log(1 - D(x)) is the logit
        return loss + self.label_smoothing * real_logits.mean() if self.label_smoothing else loss

    def generator(self, fake_logits: Tensor) -> Tensor:
        """Return the mean of -log D(G(z)), a scalar, of logits (N, 1)."""
        return softplus(-fake_logits).mean()


class LeastSquares:
    """LSGAN: D's logit is regressed on 1 for real and on 0 for generated images.

    Mao et al., Least Squares Generative Adversarial Networks, 2017, equation 9 (a = 0, b = c = 1).
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the mean of (D(x) - 1)² / 2 + D(G(z))² / 2, a scalar, of logits (N, 1) and (M, 1).

        It is 1/4 once D is 1/2 everywhere.
        """
        return ((real_logits - 1).square().mean() + fake_logits.square().mean()) / 2

    def generator(self, fake_logits: Tensor) -> Tensor:
        """Return the mean of (D(G(z)) - 1)² / 2, a scalar, of logits (N, 1)."""
        return (fake_logits - 1).square().mean() / 2


class Hinge:
    """The hinge loss: D ignores real images with a logit above 1 and generated ones with a logit below -1.

    Lim and Ye, Geometric GAN, 2017; Miyato et al., Spectral Normalization for GANs, 2018, equations 16 and 17.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the mean of max(0, 1 - D(x)) + max(0, 1 + D(G(z))), a scalar, of logits (N, 1) and (M, 1).

        It is 2 once D is 0 everywhere.
        """
        return relu(1 - real_logits).mean() + relu(1 + fake_logits).mean()

    def generator(self, fake_logits: Tensor) -> Tensor:
        """Return the mean of -D(G(z)), a scalar, of logits (N, 1)."""
        return -fake_logits.mean()


class Wasserstein:
    """WGAN: minus D's loss is the Wasserstein distance between the data and G's images, for the best D of slope <= 1.

    Arjovsky et al., Wasserstein GAN, 2017, equation 2 and Algorithm 1. For ways to bound the slope, see
    :mod:`gan_lightning.penalties`.
    """

    needs_lipschitz = True

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the mean of D(G(z)) - D(x), a scalar, of logits (N, 1) and (M, 1)."""
        return fake_logits.mean() - real_logits.mean()

    def generator(self, fake_logits: Tensor) -> Tensor:
        """Return the mean of -D(G(z)), a scalar, of logits (N, 1)."""
        return -fake_logits.mean()


class Relativistic:
    """Relativistic pairing: D estimates which image of a pair is real.

    Jolicoeur-Martineau, The relativistic discriminator, 2018; in this form Huang et al., The GAN is dead; long live
    the GAN!, 2024, equation 2. The generator's loss needs the logits of real images, one more pass through D per step.
    """

    needs_real_logits = True

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the mean of -log sigmoid(D(x) - D(G(z))) over pairs of logits (N, 1), where D(·) is the logit."""
        return softplus(fake_logits - real_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor:
        """Return the mean of -log sigmoid(D(G(z)) - D(x)) over pairs of logits (N, 1), where D(·) is the logit."""
        return softplus(real_logits - fake_logits).mean()


class RelativisticAverage:
    """RaSGAN: D estimates whether an image is more realistic than the average image of the other kind.

    Jolicoeur-Martineau, The relativistic discriminator, 2018, section 4.2. Each term has a mean over all images, so a
    logit's gradient depends on the whole minibatch. As with :class:`Relativistic`, the generator's loss needs the
    logits of real images.
    """

    needs_real_logits = True

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the mean of -log sigmoid(D(x) - E D(G(z))) - log(1 - sigmoid(D(G(z)) - E D(x))), a scalar.

        D(·) is the logit; logits are (N, 1) and (M, 1). It is log 4 once all logits are equal.
        """
        above_fake, above_real = real_logits - fake_logits.mean(), fake_logits - real_logits.mean()
        return softplus(-above_fake).mean() + softplus(above_real).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor:
        """Return D's loss with real and generated images exchanged, a scalar, of logits (N, 1) and (M, 1)."""
        return self.discriminator(fake_logits, real_logits)

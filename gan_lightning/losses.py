"""The losses of both networks, as functions of the discriminator's logits.

With D(x) = sigmoid(logit), log D(x) = -softplus(-logit) and log(1 - D(x)) = -softplus(logit). Written this way, every
loss and its gradient stay finite however certain the discriminator is.

A loss is a class with two methods and, if they are true, two flags: ``needs_real_logits`` if the generator's loss takes
the logits of real images as its second argument, and ``gives_probabilities`` if the sigmoid of a logit is the
probability that the image is real.
"""

from torch import Tensor
from torch.nn.functional import softplus


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
    """The heuristic of the paper's section 3: the generator maximizes log D(G(z)) instead."""

    def generator(self, fake_logits: Tensor) -> Tensor:
        """Return the mean of -log D(G(z)), a scalar, of logits (N, 1)."""
        return softplus(-fake_logits).mean()


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

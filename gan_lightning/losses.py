"""The two players' losses, as functions of the discriminator's logits.

With D(x) = sigmoid(logit), log D(x) = -softplus(-logit) and log(1 - D(x)) = -softplus(logit). Written so, every
loss and its gradient stay finite however sure the discriminator is.

A loss is one small class with two methods, and one file in ``conf/loss/``.
"""

from torch import Tensor
from torch.nn.functional import softplus


class Minimax:
    """The two-player game of equation 1 of the paper, min over G and max over D of V(D, G)."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Mean of -log D(x) - log(1 - D(G(z))); logits (N, 1) and (M, 1) to a scalar. log 4 once D is 1/2."""
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator(self, fake_logits: Tensor) -> Tensor:
        """Mean of log(1 - D(G(z))); logits (N, 1) to a scalar. It saturates while D rejects the fakes."""
        return -softplus(fake_logits).mean()


class NonSaturating(Minimax):
    """The paper's heuristic (section 3): the generator maximises log D(G(z)) instead."""

    def generator(self, fake_logits: Tensor) -> Tensor:
        """Mean of -log D(G(z)); logits (N, 1) to a scalar."""
        return softplus(-fake_logits).mean()


class Relativistic:
    """Relativistic pairing: which of a pair is real.

    Jolicoeur-Martineau, The relativistic discriminator, 2018; in this form Huang et al., The GAN is dead; long live
    the GAN!, 2024, equation 2.

    The generator's loss looks at real images too, so a step costs one more pass through the discriminator.
    """

    pairs = True  # the generator's loss takes the logits of real images as its second argument

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Mean of -log sigmoid(D(x) - D(G(z))), D the logit; logits (N, 1), (N, 1) to a scalar. log 2 at a draw."""
        return softplus(fake_logits - real_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor:
        """Mean of -log sigmoid(D(G(z)) - D(x)); logits (N, 1), (N, 1) to a scalar."""
        return softplus(real_logits - fake_logits).mean()

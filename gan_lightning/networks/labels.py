"""Labels in a generator and a discriminator; without classes, networks ignore them.

G receives an embedding of the label beside the noise (Mirza & Osindero, Conditional Generative Adversarial Nets, 2014).
D's logit is φ(x)·w + b + φ(x)·e(y) with features φ and an embedding e: the projection of Miyato & Koyama, cGANs with
Projection Discriminator, 2018, equation 3.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def check_num_classes(num_classes: int) -> None:
    """Raise ValueError unless there are no classes or at least two."""
    if num_classes != 0 and not 2 <= num_classes < 2**31:
        raise ValueError(f"num_classes={num_classes}: must be 0 (unconditional) or at least 2, and below 2**31")


def check_labels(labels: Tensor | None, num_classes: int) -> Tensor:
    """Return labels (N,), after a check on the CPU only, since it would make a GPU wait.

    Raises:
        ValueError: If labels are missing or out of range.
    """
    if labels is None:
        raise ValueError(f"labels=None: networks with num_classes={num_classes} need a label for each image")
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = labels[(labels < 0) | (labels >= num_classes)]
        if len(wrong):
            raise ValueError(f"labels={wrong[0]}: must be between 0 and {num_classes - 1} (num_classes={num_classes})")
    return labels


class Condition(nn.Module):
    """Appends the embedding of the label, as long as the noise, to the noise.

    Args:
        latent_dim: Length of a noise vector.
        num_classes: Number of classes.
    """

    def __init__(self, latent_dim: int, num_classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_classes, latent_dim)  # from N(0, 1)

    def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Return (N, 2 * latent_dim) for noise (N, latent_dim) and labels (N,)."""
        embeddings = self.embedding(check_labels(labels, self.embedding.num_embeddings))
        return torch.cat([z, embeddings.to(z.dtype)], 1)


class Projection(nn.Linear):
    """The product of the features and the label's embedding, to be added to the logit.

    The embeddings are the rows of a linear layer's weight, and are initialized like one.

    Args:
        features: Number of features.
        num_classes: Number of classes.
    """

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__(features, num_classes, bias=False)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:  # type: ignore[override]
        """Return (N, 1) for features (N, F) and labels (N,)."""
        embeddings = F.embedding(check_labels(labels, self.out_features), self.weight)
        return (features * embeddings).sum(1, keepdim=True)


def project(layers: nn.Sequential, images: Tensor, projection: Projection | None, labels: Tensor | None) -> Tensor:
    """Return the logits (N, 1) of layers that end in a linear one, plus the projection of its input if there is one."""
    if projection is None:
        return layers(images)
    features = layers[:-1](images)
    return layers[-1](features) + projection(features, labels)

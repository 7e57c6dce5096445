"""The features that FID and its kin compare images by: of a classifier trained by this package, or Inception's."""

from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from gan_lightning.errors import InputError
from gan_lightning.networks.classifier import Classifier

FOLDER = Path(__file__).parent


class Features(nn.Module):
    """A frozen classifier that turns images (N, C, H, W) in [-1, 1] into features (N, num_features).

    A result is kept for as long as its images are, so that all who are given one tensor share one pass.

    Args:
        classifier: Has ``features``, ``head``, ``num_features`` and ``num_classes``.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        # Channels last: five sixths of the time, on a CPU
        self.classifier = classifier.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.num_features, self.num_classes = classifier.num_features, classifier.num_classes
        self._seen: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def train(self, mode: bool = True) -> "Features":
        """Stay in evaluation mode."""
        return super().train(False)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Give the features (N, num_features)."""
        if images not in self._seen:  # parts of 25 stay in a processor's cache, and in memory that is kept
            self._seen[images] = torch.cat([self.classifier.features(part) for part in images.split(25)])
        return self._seen[images]

    @torch.inference_mode()
    def classify(self, images: Tensor) -> Tensor:
        """Give the likeliest classes (N,)."""
        return self.classifier.head(self(images)).argmax(1)


class Inception(nn.Module):
    """Inception-v3 with the weights and the resizing of the original FID (Heusel et al., 2017), by torch-fidelity.

    Args:
        weights: torch-fidelity's file of weights. It is unpickled: name one that you trust.

    Raises:
        InputError: If there is no such file.
        ModuleNotFoundError: If torch-fidelity is not installed.
    """

    num_features = 2048

    def __init__(self, *, weights: str) -> None:
        from torchmetrics.image.fid import NoTrainInceptionV3

        super().__init__()
        if not Path(weights).is_file():
            raise InputError(f"weights={weights}: no such file")
        self.network = NoTrainInceptionV3("inception-v3-compat", [str(self.num_features)], weights, antialias=False)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) in [-1, 1], C = 1 or 3, to features (N, 2048)."""
        pixels = images.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)
        return torch.cat([self.network(part) for part in pixels.split(50)])


@lru_cache
def load(*, weights: str, sha256: str) -> Features:
    """Load a classifier's weights, once in a process.

    Args:
        weights: A ``.safetensors`` file, by its path or by its name in this package's ``metrics/``.
        sha256: What the file's SHA-256 must be.

    Raises:
        InputError: If there is no such file or it is another one.
    """
    path = Path(weights) if Path(weights).is_file() else FOLDER / weights
    if not path.is_file():
        raise InputError(f"features.weights={weights}: no such file; `make classifier` trains one")
    content = path.read_bytes()
    if (found := digest(content)) != sha256:
        raise InputError(f"features.sha256={sha256}: {path} has {found}")
    classifier = Classifier()
    classifier.load_state_dict(load_tensors(content))
    return Features(classifier)


def digest(content: bytes) -> str:
    """Give the SHA-256 of bytes in hexadecimal."""
    return sha256(content).hexdigest()

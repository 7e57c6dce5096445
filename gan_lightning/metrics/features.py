"""The features that FID, KID, precision and recall compare: of this package's classifier, or of Inception-v3."""

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from gan_lightning.errors import InputError, third_party_errors
from gan_lightning.metrics.classifier import Classifier

FOLDER = Path(__file__).parent
MAX_STACKED = 4  # 10,000 classes of digits


class FeatureExtractor(nn.Module):
    """A frozen classifier that maps images (N, C, H, W) in [-1, 1] to features (N, num_features).

    The features of a tensor are cached for as long as the tensor exists, so that all metrics that are given the same
    tensor share one forward pass.

    With several ``stacked`` images in the channels of one, each is classified by itself: the features are those of all,
    and the class is the number whose digits, to the base of the classifier's number of classes, are their classes.

    Args:
        classifier: Has ``features``, ``head``, ``num_features`` and ``num_classes``.
        stacked: Number of images that an image consists of.

    Raises:
        ValueError: If that is less than 1 or more than ``MAX_STACKED``.
    """

    image_size = (28, 28)

    def __init__(self, classifier: Classifier, *, stacked: int = 1) -> None:
        super().__init__()
        if not 1 <= stacked <= MAX_STACKED:
            raise ValueError(f"stacked={stacked}: must be from 1 to {MAX_STACKED}")
        # On a CPU, channels_last saves a sixth of the time.
        self.classifier = classifier.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.stacked = stacked
        self.num_features, self.num_classes = stacked * classifier.num_features, classifier.num_classes**stacked
        self._cache: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def train(self, mode: bool = True) -> "FeatureExtractor":
        """Stay in evaluation mode."""
        return super().train(False)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Return the features (N, num_features) of images (N, C, H, W) in [-1, 1]."""
        if images not in self._cache:
            single = images.unflatten(1, (self.stacked, -1)).flatten(0, 1) if self.stacked > 1 else images
            parts = single.split(25)  # small enough for the activations to fit in the CPU's cache
            features = torch.cat([self.classifier.features(part) for part in parts])
            self._cache[images] = features.view(-1, self.num_features)
        return self._cache[images]

    @torch.inference_mode()
    def classify(self, images: Tensor) -> Tensor:
        """Return the most likely classes (N,) of images (N, C, H, W) in [-1, 1]."""
        digits = self.classifier.head(self(images).unflatten(1, (self.stacked, -1))).argmax(2)  # (N, stacked)
        base = self.classifier.num_classes
        places = base ** torch.arange(self.stacked - 1, -1, -1, device=digits.device)  # 100, 10, 1
        return (digits * places).sum(1)


class Inception(nn.Module):
    """Inception-v3 with the weights and the resizing of the original FID (Heusel et al., 2017), by torch-fidelity.

    Args:
        weights: torch-fidelity's file of weights.

    Raises:
        ValueError: If the file does not exist, or has anything but weights.
        ModuleNotFoundError: If torch-fidelity is not installed.
    """

    num_features = 2048

    def __init__(self, *, weights: str) -> None:
        from torchmetrics.image.fid import NoTrainInceptionV3

        super().__init__()
        if not find_spec("torch_fidelity"):
            raise ModuleNotFoundError("needs torch-fidelity; pip install 'gan-lightning[inception]'")
        if not Path(weights).is_file():
            raise ValueError(f"weights={weights}: no such file; must be torch-fidelity's file of Inception's weights")
        with third_party_errors(f"weights={weights}: must be torch-fidelity's file of Inception's weights"):
            torch.load(weights, map_location="cpu", weights_only=True)  # torch-fidelity would run code in it
            self.network = NoTrainInceptionV3("inception-v3-compat", [str(self.num_features)], weights, antialias=False)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Return the features (N, 2048) of images (N, C, H, W) in [-1, 1], C = 1 or 3."""
        pixels = images.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)
        return torch.cat([self.network(part) for part in pixels.split(50)])


@lru_cache
def load_features(*, weights: str, sha256: str, stacked: int = 1) -> FeatureExtractor:
    """Return the feature extractor of a trained classifier, loaded once per process.

    Args:
        weights: A ``.safetensors`` file, by its path or by its name in this package's ``metrics/``.
        sha256: The file's SHA-256 in hexadecimal.
        stacked: See :class:`FeatureExtractor`.

    Raises:
        InputError: If the file does not exist or has another SHA-256.
    """
    path = Path(weights) if Path(weights).is_file() else FOLDER / weights
    if not path.is_file():
        raise InputError(
            f"features.weights={weights}: no such file; `python -m gan_lightning.train_classifier` trains one"
        )
    content = path.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise InputError(f"features.sha256={sha256}: the SHA-256 of {path} is {found}")
    classifier = Classifier()
    classifier.load_state_dict(load_tensors(content))
    return FeatureExtractor(classifier, stacked=stacked)

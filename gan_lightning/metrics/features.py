"""The features that FID and other metrics compare: of a classifier, of random convolutions, or of Inception-v3."""

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu
from torch.utils.weak import WeakIdKeyDictionary

from gan_lightning.data.images import to_pixels
from gan_lightning.errors import InputError
from gan_lightning.metrics.classifier import Classifier

FOLDER = Path(__file__).parent
MAX_STACKED = 4  # 10,000 classes of digits
MAX_SIZE = 64  # longer side that larger images are reduced to for random features


class FeatureExtractor(nn.Module):
    """Base class of frozen networks that map images (N, C, H, W) in [-1, 1] to features (N, num_features).

    The features of a tensor are cached for as long as the tensor exists, so that all metrics that are given the same
    tensor share one forward pass.

    Attributes:
        num_features: Number of features.
        description: What they are, in a few words. Values of metrics are comparable if this is the same.
        image_size: Height and width that images must have; None: any.
        channels: Numbers of channels that images may have.
        datasets: Classes of the data sets that the features were made for, by their names; None: any.
        batch_size: Images that pass through the network at a time.
    """

    num_features: int
    description: str
    image_size: tuple[int, int] | None = None
    channels: tuple[int, ...] = (1, 3)
    datasets: Sequence[str] | None = None
    batch_size = 50

    def __init__(self) -> None:
        super().__init__()
        self._cache: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def train(self, mode: bool = True) -> "FeatureExtractor":
        """Stay in evaluation mode."""
        return super().train(False)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Return the features (N, num_features) of images (N, C, H, W) in [-1, 1]."""
        if images not in self._cache:
            self._cache[images] = torch.cat([self.extract(part) for part in images.split(self.batch_size)])
        return self._cache[images]

    def extract(self, images: Tensor) -> Tensor:
        """Return the features of at most ``batch_size`` images."""
        raise NotImplementedError


class ClassifierFeatures(FeatureExtractor):
    """The features of a classifier, which are its last hidden layer.

    With several ``stacked`` images in the channels of one, each is classified by itself: the features are those of all,
    and the class is the number whose digits, to the base of the classifier's number of classes, are their classes.

    Args:
        classifier: Has ``features``, ``head``, ``num_features`` and ``num_classes``.
        stacked: Number of images that an image consists of.
        datasets: See :class:`FeatureExtractor`.
        description: See :class:`FeatureExtractor`.

    Raises:
        ValueError: If ``stacked`` is less than 1 or more than ``MAX_STACKED``.
    """

    image_size = (28, 28)
    batch_size = 25  # small enough for the activations to fit in the CPU's cache

    def __init__(
        self,
        classifier: Classifier,
        *,
        stacked: int = 1,
        datasets: Sequence[str] | None = None,
        description: str = "a classifier",
    ) -> None:
        super().__init__()
        if not 1 <= stacked <= MAX_STACKED:
            raise ValueError(f"stacked={stacked}: must be from 1 to {MAX_STACKED}")
        # On a CPU, channels_last saves a sixth of the time.
        self.classifier = classifier.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.stacked, self.datasets, self.description = stacked, datasets, description
        self.num_features, self.num_classes = stacked * classifier.num_features, classifier.num_classes**stacked
        self.channels = (stacked * classifier.channels,)

    def extract(self, images: Tensor) -> Tensor:
        """Return the features of few images."""
        single = images.unflatten(1, (self.stacked, -1)).flatten(0, 1) if self.stacked > 1 else images
        return self.classifier.features(single).view(-1, self.num_features)

    @torch.inference_mode()
    def classify(self, images: Tensor) -> Tensor:
        """Return the most likely classes (N,) of images (N, C, H, W) in [-1, 1]."""
        digits = self.classifier.head(self(images).unflatten(1, (self.stacked, -1))).argmax(2)  # (N, stacked)
        base = self.classifier.num_classes
        places = base ** torch.arange(self.stacked - 1, -1, -1, device=digits.device)  # 100, 10, 1
        return (digits * places).sum(1)


class Inception(FeatureExtractor):
    """Inception-v3 with the weights and the resizing of the original FID (Heusel et al., 2017), by torch-fidelity.

    Args:
        weights: torch-fidelity's file of weights.

    Raises:
        ValueError: If the file does not exist, or has anything but weights.
        ModuleNotFoundError: If torch-fidelity is not installed.
    """

    num_features, description = 2048, "Inception-v3"

    def __init__(self, *, weights: str) -> None:
        from torchmetrics.image.fid import NoTrainInceptionV3

        super().__init__()
        if not find_spec("torch_fidelity"):
            raise ModuleNotFoundError("needs torch-fidelity; pip install 'gan-lightning[inception]'")
        if not Path(weights).is_file():
            raise ValueError(f"weights={weights}: no such file; must be torch-fidelity's file of Inception's weights")
        try:
            torch.load(weights, map_location="cpu", weights_only=True)  # torch-fidelity would run code in it
            self.network = NoTrainInceptionV3("inception-v3-compat", [str(self.num_features)], weights, antialias=False)
        except Exception as error:  # whose advice would be to run that code
            raise ValueError(f"weights={weights}: must be torch-fidelity's file of Inception's weights") from error

    def extract(self, images: Tensor) -> Tensor:
        """Return the features of few images, C = 1 or 3."""
        return self.network(to_pixels(images).expand(-1, 3, -1, -1))


class RandomFeatures(FeatureExtractor):
    """A convolutional network with random weights, for images for which there is no trained network.

    Random features compare generative models about as well as trained ones, where the data is unlike that of the
    trained ones (Naeem et al., Reliable Fidelity and Diversity Metrics for Generative Models, 2020, section 4).

    Four convolutions of stride 2 follow each other. The features are the mean and the standard deviation of each
    channel of the last two.
    """

    num_features, description = 2 * (128 + 256), "random convolutions"

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layers = nn.ModuleList()
        for c_in, c_out in pairwise((3, 32, 64, 128, 256)):
            layer = nn.Conv2d(c_in, c_out, 4, stride=2, padding=2, bias=False)
            nn.init.orthogonal_(layer.weight, gain=2**0.5, generator=generator)
            self.layers.append(layer)
        self.requires_grad_(False)

    def extract(self, images: Tensor) -> Tensor:
        """Return the features of few images, C = 1 or 3."""
        if max(images.shape[2:]) > MAX_SIZE:
            scale = MAX_SIZE / max(images.shape[2:])
            sides = [max(round(side * scale), 8) for side in images.shape[2:]]
            images = interpolate(images, sides, mode="bilinear", antialias=True)
        x, found = images.expand(-1, 3, -1, -1), []
        for layer in self.layers:
            x = leaky_relu(layer(x), 0.2)
            found.append(x.flatten(2))
        return torch.cat([t for x in found[-2:] for t in (x.mean(2), x.std(2, correction=0))], dim=1)


def load_features(
    *, weights: str, sha256: str, stacked: int = 1, datasets: Sequence[str] | None = None
) -> ClassifierFeatures:
    """Return the features of a trained classifier.

    Args:
        weights: A ``.safetensors`` file, by its path or by its name in this package's ``metrics/``.
        sha256: The file's SHA-256 in hexadecimal.
        stacked: See :class:`ClassifierFeatures`.
        datasets: See :class:`FeatureExtractor`.

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
    tensors = load_tensors(content)
    classifier = Classifier(num_classes=len(tensors["head.2.weight"]))
    classifier.load_state_dict(tensors)
    description = f"the classifier {path.name}, SHA-256 {sha256[:8]}"
    return ClassifierFeatures(classifier, stacked=stacked, datasets=datasets, description=description)

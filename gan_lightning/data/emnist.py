"""EMNIST: handwritten letters and digits."""

from typing import Any

import torchvision
from torch import Tensor


class EMNIST(torchvision.datasets.EMNIST):  # type: ignore[misc]
    """torchvision's EMNIST (Cohen et al., EMNIST: an extension of MNIST to handwritten letters, 2017), upright.

    Its files hold the images with rows and columns exchanged. Labels begin with 0, also those of ``letters``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.data: Tensor = self.data.mT
        self.targets: Tensor = self.targets - self.targets.min()

from torchvision.datasets import KMNIST, MNIST

from gan_lightning.metrics.modes import Modes
from gan_lightning.metrics.neighbors import ClippedDensityCoverage, NearestTraining, PrecisionRecall
from gan_lightning.metrics.parzen import ParzenWindow
from gan_lightning.metrics.reference import reference_for


def test_references_have_the_metrics_names() -> None:
    kinds = (ParzenWindow, PrecisionRecall, ClippedDensityCoverage, Modes, NearestTraining)
    names = {"fid", "kid", "sliced_wasserstein"}.union(*(kind.values for kind in kinds))
    columns = reference_for(MNIST)
    assert set(columns) == {"article", "paper", "real images"}
    assert all(set(column) <= names for column in columns.values())


def test_other_data_sets_have_no_reference() -> None:
    assert reference_for(KMNIST) == {}

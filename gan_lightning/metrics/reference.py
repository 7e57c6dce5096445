"""Published and measured results to compare a run's test metrics with."""

from collections.abc import Iterable

from torchvision.datasets import MNIST

from gan_lightning.metrics.features import FeatureExtractor

REFERENCE_IMAGES = 10_000  # samples that the results are of
REFERENCE_FEATURES = "the classifier mnist.safetensors, SHA-256 6b11afcb"
OF_PIXELS = ("parzen_ll", "nearest_training")  # values that need no features

_REFERENCES: dict[object, dict[str, dict[str, float]]] = {
    MNIST: {
        "article": {
            "parzen_ll": 102.6,
            "fid": 5.04,
            "kid": 0.294,
            "precision": 0.752,
            "recall": 0.062,
            "density": 0.588,
            "coverage": 0.222,
            "modes": 10,
            "nearest_training": 4.92,
        },
        "paper": {"parzen_ll": 225},
        "real images": {
            "parzen_ll": 241.2,
            "fid": 0.035,
            "kid": 0.0005,
            "sliced_wasserstein": 0.0271,
            "precision": 0.846,
            "recall": 0.848,
            "density": 0.922,
            "coverage": 0.830,
            "clipped_density": 0.926,
            "clipped_coverage": 0.856,
            "modes": 10,
            "mode_kl": 0.0005,
        },
    },
}


def reference_for(dataset: object, extractors: Iterable[FeatureExtractor] = ()) -> dict[str, dict[str, float]]:
    """Return results of ``REFERENCE_IMAGES`` samples against the test set, by column and metric.

    Columns for MNIST:

    - "article": mean over seeds 0, 1 and 2 of ``python -m gan_lightning.train experiment=article``, with
      ``metrics.nearest_training.stride=1``; the other rows of ``docs/results.md`` are not repeated.
    - "paper": Table 1 of Goodfellow et al. (2014).
    - "real images": the first 10,000 training images in the place of samples.

    Args:
        dataset: Class of the data set.
        extractors: Those of the metrics that are compared; the results are of ``REFERENCE_FEATURES``.

    Returns:
        A dictionary of metrics for each column; empty if nothing is known for the data set.
    """
    same = all(extractor.description == REFERENCE_FEATURES for extractor in extractors)
    columns = _REFERENCES.get(dataset, {}).items()
    return {column: {n: v for n, v in values.items() if same or n in OF_PIXELS} for column, values in columns}

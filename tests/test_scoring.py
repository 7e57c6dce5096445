import json
from math import inf, nan
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from gan_lightning import scoring
from gan_lightning.data.datamodule import ImageDataModule


class Brightness(Metric):
    """Mean generated pixel minus mean real pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("fake", default=torch.zeros(2))
        self.add_state("real", default=torch.zeros(2))

    def update(self, images: Tensor, *, real: bool) -> None:
        state = self.real if real else self.fake
        state += torch.tensor([float(images.sum()), images.numel()])

    def compute(self) -> Tensor:
        return self.fake[0] / self.fake[1] - self.real[0] / self.real[1]


class Searching(Brightness):
    def search(self, train: object) -> None:
        pass


def test_any_metric_is_fed_and_left_empty() -> None:
    metric = Brightness()
    fake, real = [torch.ones(3, 1, 2, 2)] * 2, [torch.zeros(4, 1, 2, 2)]
    for _ in range(2):
        figures = scoring.score(
            {"brightness": metric},
            fake=fake,
            real=real,
            validation=lambda n: real[0][:n],
            train=list,
            device=torch.device("cpu"),
        )
        assert figures == {"brightness": 1.0}


def test_evaluate_measures_both_splits(mnist: ImageDataModule) -> None:
    from hydra.utils import instantiate

    from gan_lightning.config import compose

    gan = instantiate(compose("train").gan, _convert_="all")
    metrics = {"brightness": Brightness(), "nearest": Searching()}
    figures = scoring.evaluate(gan, mnist, metrics, num_images=50, seed=0)
    assert figures.keys() == {"validation", "test"}
    assert figures["test"]["nearest"] == figures["test"]["brightness"]
    assert "nearest" not in figures["validation"]
    batches = [(images, labels) for images, labels in mnist.test_dataloader()]
    with torch.inference_mode():
        logits = torch.cat([gan.discriminator(mnist.on_after_batch_transfer(b, 0)[0]) for b in batches])
    assert figures["test"]["probability_real"] == pytest.approx(logits.sigmoid().mean().item(), rel=1e-4)
    flat = scoring.flatten(figures)
    assert flat["accuracy"] == figures["test"]["accuracy"]
    assert flat["val_accuracy"] == figures["validation"]["accuracy"]


def test_the_table_says_if_its_reference_is_of_more_images() -> None:
    reference = {"article": {"fid": 5.0}, "paper": {"parzen_ll": 225.0}}
    same, fewer = (scoring.table({"test": {"fid": 1.5}}, reference, n) for n in (10_000, 2_000))
    assert [line.split() for line in same.splitlines()] == [
        ["test", "article", "paper"],
        ["fid", "1.5", "5"],
        ["parzen_ll", "225"],
    ]
    assert fewer.splitlines()[:-1] == same.splitlines()
    assert fewer.splitlines()[-1] == "(article, paper: 10,000 samples; here 2,000, for which FID is another)"
    assert scoring.table({"test": {"fid": 1.5}}, None, 2_000).splitlines()[-1].split() == ["fid", "1.5"]


def test_figures_have_exact_products_whatever_training_has() -> None:
    class Precision(Brightness):
        def compute(self) -> Tensor:
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
            return super().compute()

    images = [torch.ones(2, 1, 2, 2)]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        scoring.score(
            {"precision": Precision()},
            fake=images,
            real=images,
            validation=lambda n: images[0],
            train=list,
            device=torch.device("cpu"),
        )
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before)


def test_figures_are_written_as_json_that_any_reader_takes(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    scoring.save({"fid": nan, "parzen_ll": -inf, "recall": 0.5, "seed": 0}, tmp_path / "metrics.json")
    written = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    assert written == {"recall": 0.5, "seed": 0}

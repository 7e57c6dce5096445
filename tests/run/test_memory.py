"""What needs more memory than the machine has is refused before it is allocated."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.errors import InputError
from gan_lightning.run import build, config, memory, schema
from gan_lightning.run.fill_in import fill_in
from tests.helpers import command
from tests.run.test_build import build_all, filled_in


@pytest.fixture(autouse=True)
def _small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "machine_memory", lambda: 4 * 10**9)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["num_images=4000000"], r"num_images=4000000: needs about 12\.5 GB of memory, and this machine has 4 GB"),
        (["callbacks.validation_metrics.num_images=9000000000000000000"], "callbacks.validation_metrics.num_images=9"),
        (["model.generator.widths=[16,1000000,1000]"], "model.generator: needs about 20.* GB"),
        (["model.discriminator.widths=[1000000]"], "model.discriminator: needs about 12.* GB"),
        (
            ["model.discriminator.widths=[1000000]", "model.discriminator.spectral_norm=true"],
            "model.discriminator: needs about 12.* GB",
        ),
        (
            ["model.image_shape=[1000000000,1000000000,1000000000]"],
            r"model.image_shape=\[1000000000,.*\]: needs about",
        ),
        (["model.prior.dim=1000000000"], "model.prior: needs about 4 TB"),
        (["+algorithm.num_fixed_latents=10000000"], "algorithm.num_fixed_latents=10000000: needs about 31.4 GB"),
        (["data.batch_size=100000000"], "data.batch_size=100000000: needs about 314 GB"),
        (["k=1000000000", "data.batch_size=2"], "k=1000000000: needs about 6.27 TB"),
        (["data.num_workers=1000000", "data.in_memory=false"], "data.num_workers=1000000: needs about 300 TB"),
        (["data=gaussian", "model=mlp_1d", "data.dataset.size=1000000000"], "data.dataset.size=1000000000: .*16 GB"),
        (["data=folder", "data.root=.", "data.image_size=20000"], r"model.image_shape=\[3,20000,20000\]: needs .* GB"),
    ],
)
def test_what_needs_too_much(typed: list[str], line: str) -> None:
    with pytest.raises(InputError, match=f"^{line}"):
        build_all(*typed)


@pytest.mark.parametrize("model", ["dcgan", "resnet"])
@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_convolutional_networks(model: str, player: str) -> None:
    typed = [f"model={model}", f"model.{player}.width=20000", f"model.{player}.max_width=20000"]
    composed = fill_in(schema.validate("train", config.compose("train", [*typed, "optimizer=adam"])))
    with pytest.raises(InputError, match=rf"^model.{player}: needs about .* GB of memory"):
        memory.check_networks(composed, build.part)


def test_many_processes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^trainer.devices=1000: needs about 300 GB"):
        build.trainer(filled_in("trainer.devices=1000"), tmp_path)


@pytest.mark.parametrize(
    ("name", "typed"),
    [("sample", "num_images=2000000000"), ("sample", "show=interpolation num_images=200000000"), ("evaluate", "")],
)
def test_images_of_a_checkpoint(run: Path, tmp_path: Path, name: str, typed: str) -> None:
    done = command(name, f"checkpoint={run}", *(typed or "num_images=4000000000").split(), cwd=tmp_path)
    assert done.returncode == 1
    assert "num_images=" in done.stderr
    assert "needs about" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_machine_that_does_not_tell_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "machine_memory", lambda: None)
    memory.require("num_images=1", 1e30)


def test_the_estimate_changes_no_random_numbers() -> None:
    torch.manual_seed(0)
    memory.check_networks(filled_in(), build.part)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert after == torch.rand(1)


class Odd(nn.Sequential):
    """A network that cannot be built on torch's meta device."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 1))
        self.scale = self[1].weight.detach().abs().max().item()

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(images)


def test_a_network_that_cannot_be_estimated() -> None:
    composed = filled_in()
    composed.model.discriminator = {"_target_": f"{__name__}.Odd"}
    assert isinstance(build.gan(composed).discriminator, Odd)

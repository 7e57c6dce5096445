"""The recorded game: its frames, its variants, its page."""

import copy
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from gan_lightning.callbacks import record_game
from gan_lightning.callbacks.record_game import Recorder, RecordGame
from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.data.points import Points
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.losses import Minimax, NonSaturating, Relativistic, Wasserstein
from gan_lightning.metrics.points import PointFeatures
from gan_lightning.networks import maxout, mlp
from gan_lightning.penalties import R1, ZeroCentered
from gan_lightning.priors import Uniform
from gan_lightning.run import config, schema, training
from tests import helpers

RING = {"layout": "ring", "modes": 8, "extent": 0.8, "std": 0.04}
FEATURES = PointFeatures(**RING)
VARIANTS = {
    "minimax": {"loss": Minimax(), "penalty": None},
    "relativistic_r1": {"loss": Relativistic(), "penalty": R1(gamma=0.5)},
}


def generator(image_shape: Sequence[int] = (2, 1, 1), latent_dim: int = 2) -> maxout.Generator:
    return maxout.Generator(latent_dim=latent_dim, image_shape=image_shape, widths=[8], weight_bound=0.5)


def points_gan(**changes: Any) -> GAN:
    torch.manual_seed(0)
    parts = {
        "generator": generator(),
        "discriminator": mlp.Discriminator(image_shape=[2, 1, 1], widths=[8], negative_slope=0.2),
        "prior": Uniform(dim=2),
        "k": 2,
    }
    return helpers.tiny_gan(**(parts | changes))


def train(folder: Path, *callbacks: Callback, gan: GAN | None = None, steps: int = 6, **options: Any) -> GAN:
    """Train on a small ring; return the GAN."""
    gan = gan or points_gan()
    data = ImageDataModule(
        dataset=partial(Points, size=500, **RING), root="", batch_size=8, val_size=100, seed=0, minibatches_per_step=2
    )
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        callbacks=list(callbacks),
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
        **options,
    )
    trainer.fit(gan, data)
    return gan


def game(**changes: Any) -> RecordGame:
    return RecordGame(**({"every_n_steps": 2, "features": FEATURES, "variants": VARIANTS} | changes))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first iteration, and every fourth, are recorded update by update."""
    monkeypatch.setattr(record_game, "FIRST", 1)
    monkeypatch.setattr(record_game, "FRAMES", 2)


class Copies(Callback):
    """Copies the GAN after every update, which it notices itself."""

    def __init__(self) -> None:
        self.copies: dict[tuple[int, int], GAN] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: GAN) -> None:
        update, count = pl_module.apply_gradient, [0, 0]

        def apply_gradient(network: Any) -> None:
            step = trainer.global_step + 1
            update(network)
            count[:] = [step, count[1] + 1 if count[0] == step else 1]
            key = (step, 0 if network is pl_module.generator else count[1])
            held = pl_module.__dict__.pop("apply_gradient")
            self.copies[key] = copy.deepcopy(pl_module)
            pl_module.apply_gradient = held  # type: ignore[method-assign]

        pl_module.apply_gradient = apply_gradient  # type: ignore[method-assign]


def test_frames_are_of_the_networks_after_each_update(few: None, tmp_path: Path) -> None:
    recorder, copies = Recorder(every_n_steps=2, features=FEATURES), Copies()
    train(tmp_path, recorder, copies, steps=7)
    assert [(frame["step"], frame["update"]) for frame in recorder.frames] == [
        *[(0, 0), (1, 1), (1, 2), (1, 0)],
        *[(2, 0), (4, 0), (5, 1), (5, 2), (5, 0), (6, 0), (7, 0)],
    ]
    z = Uniform(dim=2)(400, generator=torch.Generator().manual_seed(0))
    real = Points("", train=True, size=500, **RING).data[:400]
    for frame in recorder.frames[1:]:
        gan = copies.copies[frame["step"], frame["update"]].eval()
        assert_frame(frame, gan, z, real)


def assert_frame(frame: dict[str, Any], gan: GAN, z: Tensor, real: Tensor) -> None:
    """Compare a frame with what is computed here."""
    x = gan.generator(z).detach().requires_grad_()
    assert torch.equal(frame["samples"], ((x[:128, :, 0, 0] + 1) * 127.5).round().to(torch.uint8))
    corner = torch.stack([z.min(), z.max()])[None]  # the first coordinate is constant along a row
    at = (gan.generator(corner).flatten() + 1) * 127.5
    assert torch.allclose(frame["grid"][record_game.GRID - 1].float(), at, atol=0.51)
    logits = gan.discriminator(x)
    loss = -torch.log(torch.sigmoid(logits)).sum()  # of each sample
    (gradient,) = torch.autograd.grad(loss, x)
    arrows = frame["arrows"].float() * frame["longest"] / 127
    assert torch.allclose(arrows, -gradient[:48, :, 0, 0], atol=0.51 * frame["longest"] / 127 + 1e-6)
    assert frame["pull"] == pytest.approx(gradient[:48].flatten(1).norm(dim=1).mean().item(), rel=1e-4)
    probability = gan.discriminator(real).sigmoid()
    assert frame["loss_g"] == pytest.approx(-logits.sigmoid().log().mean().item(), rel=1e-4)
    loss_d = -probability.log().mean() - (1 - logits.sigmoid()).log().mean()
    assert frame["loss_d"] == pytest.approx(loss_d.item(), rel=1e-4)
    point = torch.tensor([-1 + 3 / 24, -1 + 1 / 24]).view(1, 2, 1, 1)  # of the map's second cell in its first row
    assert frame["map"][0, 1].item() == pytest.approx(255 * gan.discriminator(point).sigmoid().item(), abs=0.51)


def test_modes_count_from_a_quarter_of_their_share(tmp_path: Path) -> None:
    gan, recorder = points_gan(), Recorder(every_n_steps=1, features=FEATURES)
    recorder.z, recorder.lattice = torch.zeros(400, 2), torch.zeros(289, 2)
    recorder.real = Points("", train=True, size=400, **RING).data
    angle = torch.tensor([0.0] * 300 + [math.pi / 2] * 13 + [math.pi] * 12 + [math.pi / 8] * 75)
    points = 0.8 * torch.stack([angle.cos(), angle.sin()], 1).view(400, 2, 1, 1)
    gan.generator = helpers.Unconditional(torch.nn.Identity())
    recorder.z = points
    recorder.lattice = points[:289]
    frame = recorder.frame(gan)
    assert (frame["modes"], frame["leader"], frame["good"]) == (2, 0, pytest.approx(325 / 400))  # 12.5 is a quarter
    assert frame["spread"] == pytest.approx(record_game.deviation(points) / record_game.deviation(recorder.real))


def test_variants_are_runs_of_their_own(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each begins with the same weights, and is the run that one would train with its loss and penalty."""
    recorded: list[Any] = []
    monkeypatch.setattr(record_game.game, "render", lambda recordings, *_, **__: recorded.extend(recordings) or "")
    train(tmp_path, game())
    assert [each.name for each in recorded] == ["Non-saturating", "Minimax", "Relativistic, R1"]
    for each in recorded:
        alone = Recorder(every_n_steps=2, features=FEATURES)
        train(tmp_path, alone, gan=points_gan(loss=each.loss, penalty=each.penalty))
        assert helpers.same(each.frames, alone.frames), each.name
        assert torch.equal(each.frames[0]["grid"], recorded[0].frames[0]["grid"])
        assert each.name == "Non-saturating" or not torch.equal(each.frames[-1]["map"], recorded[0].frames[-1]["map"])


def test_variants_do_not_use_the_graphs_of_the_run(few: None, tmp_path: Path) -> None:
    class Graphs:
        """As :class:`gan_lightning.perf.cuda_graphs.GraphedStep`."""

        def __init__(self, gan: GAN) -> None:
            self.gan, self.step, self.loss = gan, gan.step, type(gan.loss)

        def __call__(self, *batch: Tensor) -> Any:
            if type(self.gan.loss) is not self.loss:
                raise InputError("cuda_graphs=true: something else was recorded")
            return self.step(*batch)

    gan = points_gan()
    gan.step = Graphs(gan)  # type: ignore[method-assign]
    train(tmp_path, game(), gan=gan)
    assert "The run ended early" not in (tmp_path / "game.html").read_text()


def test_the_run_takes_the_place_of_its_variant(few: None, tmp_path: Path) -> None:
    train(tmp_path, game(), gan=points_gan(loss=Minimax()), steps=2)
    page = (tmp_path / "game.html").read_text()
    assert page.count('"packed"') == len(VARIANTS)


def test_training_is_the_same_with_it(tmp_path: Path) -> None:
    state, draws_more = torch.get_rng_state(), {"loss": Wasserstein(), "penalty": ZeroCentered(gamma=1)}
    with_it, random = train(tmp_path, game(variants={"draws_more": draws_more})), torch.get_rng_state()
    torch.set_rng_state(state)
    without = train(tmp_path)
    assert helpers.same(with_it.state_dict(), without.state_dict())
    assert torch.equal(random, torch.get_rng_state())


def test_a_variant_that_diverges_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Diverging(Wasserstein):
        calls = 0

        def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
            self.calls += len(real_logits) == 8  # not those of frames
            return super().discriminator(real_logits, fake_logits) * (math.inf if self.calls > 6 else 1)

    train(tmp_path, game(variants={"wasserstein": {"loss": Diverging(), "penalty": None}}))
    page = (tmp_path / "game.html").read_text()
    assert "The run ended early: step 4: " in page
    assert "NaN" not in page


def test_a_fast_development_run(tmp_path: Path) -> None:
    train(tmp_path, game(), fast_dev_run=True)
    assert (tmp_path / "game.html").exists()


@pytest.mark.parametrize(
    "changes", [{"prior": Uniform(dim=3), "generator": generator(latent_dim=3)}, {"generator": generator([1, 2, 2])}]
)
def test_other_data_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"callbacks\.record_game: needs points of the plane \(data=ring\)"):
        train(tmp_path, game(), gan=points_gan(**changes))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"every_n_steps": 0}, r"^every_n_steps=0: .* at least 1$"),
        ({"variants": {"own": {"loss": NonSaturating()}}}, r"^variants=own: must have a loss, and a penalty or null"),
        ({"variants": {"own": {"loss": None, "penalty": None}}}, r"^variants=own: must have a loss"),
        ({"variants": {"own": {"loss": "hinge", "penalty": None}}}, r"^variants=own: must have classes, as in loss"),
        ({"variants": {"own": {"loss": NonSaturating(), "penalty": "r1"}}}, r"^variants=own: must have classes"),
    ],
)
def test_arguments_are_validated(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        game(**changes)


def test_a_resumed_run_makes_the_same_page(tmp_path: Path) -> None:
    """The frames before are in the checkpoint, and the variants begin anew from the untrained weights."""
    typed = ["experiment=game2d", "trainer.accelerator=cpu", "data.dataset.size=2000", "data.val_size=500"]
    typed += ["num_images=100", "logger=none", "metrics.precision_recall=null", "optimizer/scheduler=constant"]
    others = ("minimax", "wasserstein", "relativistic", "minimax_r1", "non_saturating", "relativistic_r1_r2")
    typed += [f"callbacks.record_game.variants.{name}=null" for name in others]
    for name, steps in (("whole", 5), ("cut", 3)):
        (tmp_path / name).mkdir()
        of_run = [*typed, f"trainer.max_steps={steps}", "trainer.val_check_interval=3"]
        training.train(schema.validate("train", config.compose("train", of_run)), tmp_path / name, of_run)
    helpers.resume(tmp_path / "cut", "trainer.max_steps=5")
    whole, cut = ((tmp_path / name / "game.html").read_text() for name in ("whole", "cut"))
    assert whole.count('"packed"') == 2
    assert whole == cut

"""Two processes on the CPU train as one process does on the global batch: the same weights, but for rounding."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.functional import softplus
from torch.utils.data import DataLoader

from gan_lightning.data.samplers import own_part
from gan_lightning.ema import EMA
from gan_lightning.networks import dcgan, mlp
from gan_lightning.ranks import own_rows, random_step
from gan_lightning.seeding import fold
from gan_lightning.simultaneous import SimultaneousGAN
from gan_lightning.sync_batchnorm import SyncBatchNorm
from tests.helpers import ROOT, tiny_gan, weights

BATCH, STEPS, CLASSES = 6, 3, 3
State = dict[str, Tensor]


class DualContrastive:
    """A loss in which every logit meets all those of the other kind."""

    needs_real_logits = True

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        real, fake = (-real_logits).logsumexp(0), fake_logits.logsumexp(0)
        return softplus(fake - real_logits).mean() + softplus(fake_logits + real).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor:
        return -self.discriminator(real_logits, fake_logits)


def parts(group: str) -> dict[str, dict[str, Any]]:
    """Return the losses or the penalties of conf/."""
    paths = sorted((ROOT / "conf" / group).glob("*.yaml"))
    return {path.stem: {group: instantiate(OmegaConf.load(path))} for path in paths if path.stem != "none"}


def convolutional(num_classes: int = 0) -> dict[str, Any]:
    """Return networks with batch normalization in both."""
    shared = {
        "width": 4,
        "max_width": 8,
        "image_shape": (1, 8, 8),
        "weight_init": "default",
        "num_classes": num_classes,
    }
    generator = dcgan.Generator(latent_dim=3, **shared)
    discriminator = dcgan.Discriminator(negative_slope=0.2, batch_norm=True, **shared)
    return {"generator": generator, "discriminator": discriminator, "num_classes": num_classes}


def default_recipe() -> dict[str, Any]:
    adam = partial(torch.optim.Adam, lr=0.01, betas=(0.0, 0.99))
    optimizers = {"generator_optimizer": adam, "discriminator_optimizer": adam}
    ema = partial(EMA, half_life=10, rampup_ratio=0.5, update_interval=1)
    return {**parts("penalty")["r1"], **optimizers, "ema": ema, "k": 2, "accumulate_grad_batches": 2}


def spectral_norm() -> dict[str, Any]:
    discriminator = mlp.Discriminator(image_shape=[1, 4, 4], widths=[8], negative_slope=0.2, spectral_norm=True)
    return {"discriminator": discriminator}


def simultaneous() -> dict[str, Any]:
    return {"kind": SimultaneousGAN, **parts("loss")["relativistic_average"], **parts("penalty")["dragan"]}


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    **{name: partial(dict, **changes) for group in ("loss", "penalty") for name, changes in parts(group).items()},
    "dual_contrastive": lambda: {"loss": DualContrastive()},
    "convolutional": convolutional,
    "conditional": lambda: convolutional(num_classes=CLASSES),
    "default_recipe": default_recipe,
    "clipped": lambda: {"gradient_clip_val": 0.01, "k": 2},
    "spectral_norm": spectral_norm,
    "simultaneous": simultaneous,
}


def train(case: str, rank: int, ranks: int) -> State:
    """Train a GAN on this rank's share of batches that are the same for any number of ranks; return its weights."""
    torch.manual_seed(0)
    gan = tiny_gan(**CASES[case]())
    minibatches = gan.k * gan.accumulate_grad_batches
    shape = gan.generator(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)).shape[1:]
    images = torch.rand(STEPS, minibatches * BATCH, *shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    own = own_part(torch.arange(minibatches * BATCH), minibatches, rank, ranks)
    devices = {"devices": ranks, "strategy": "ddp_find_unused_parameters_true", "plugins": [SyncBatchNorm()]}
    trainer = Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        precision="64-true",
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **(devices if ranks > 1 else {}),
    )
    trainer.fit(gan, DataLoader([(batch[own], own % CLASSES) for batch in images], batch_size=None))
    return weights(gan)


def random_numbers() -> State:
    """Return what a rank draws in a step: for itself, and of what all draw."""
    with random_step(torch.device("cpu"), 0, 5):
        return {"own": torch.rand(4), "common": own_rows(torch.rand, 4)}


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "vectors": lambda: nn.BatchNorm1d(3, eps=0.8),
    "images": lambda: nn.BatchNorm2d(3),
    "plain": lambda: nn.BatchNorm1d(3, affine=False, momentum=None),
    "untracked": lambda: nn.BatchNorm1d(3, track_running_stats=False),
    "bf16": lambda: nn.BatchNorm1d(3),
}


def normalize(name: str, rank: int, ranks: int) -> State:
    """Normalize this rank's part of a batch twice; return its output, gradients and running statistics."""
    layer, generator = LAYERS[name](), torch.Generator().manual_seed(2)
    shape = (8, 3, 2, 2) if name == "images" else (8, 3)
    x, gradient = (3 * torch.randn(shape, generator=generator) + 10 for _ in range(2))
    dtype = torch.bfloat16 if name == "bf16" else torch.float32
    own = [part.chunk(ranks)[rank].to(dtype) for part in (x, gradient)]
    plugin = SyncBatchNorm()
    layer = plugin.apply(layer) if ranks > 1 else layer
    own[0].requires_grad_()
    layer(own[0] + 1)
    y = layer(own[0])
    y.backward(own[1])
    parameters = {f"{key} gradient": value.grad for key, value in layer.named_parameters()}
    if ranks > 1:
        for value in parameters.values():
            dist.all_reduce(value)
        layer = plugin.revert(layer)
        assert "forward" not in vars(layer)
    return {"y": y.detach(), "x gradient": own[0].grad, **parameters, **weights(layer)}


def main(folder: str) -> None:
    """Train every case as one of several processes, and save what each gives."""
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    results = {case: train(case, rank, ranks) for case in CASES} | {"random": random_numbers()}
    torch.save(results | {name: normalize(name, rank, ranks) for name in LAYERS}, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, State]]:
    """Return what each of two processes has saved."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    common |= {"TORCHELASTIC_RUN_ID": "test", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.test_ranks", str(folder)],
            env=os.environ | common | {name: str(rank) for name in ("RANK", "LOCAL_RANK")} | {"GROUP_RANK": "0"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(results: list[dict[str, State]], case: str) -> None:
    one, (a, b) = train(case, 0, 1), [result[case] for result in results]
    assert one.keys() == a.keys() == b.keys()
    for name, expected in one.items():
        assert torch.equal(a[name], b[name]), name
        torch.testing.assert_close(a[name], expected, rtol=1e-6, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("name", LAYERS)
def test_batch_normalization_over_two_processes(results: list[dict[str, State]], name: str) -> None:
    """Outputs, gradients and running statistics are those of torch's layer for the whole batch."""
    one, both = normalize(name, 0, 1), [result[name] for result in results]
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if name == "bf16" else {"rtol": 1e-4, "atol": 1e-4}
    assert one.keys() == both[0].keys()
    for key, expected in one.items():
        found = torch.cat([state[key] for state in both]) if key in ("y", "x gradient") else both[0][key]
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, **tolerance)


def test_noise_is_shared_and_all_other_randomness_is_not(results: list[dict[str, State]]) -> None:
    one, (a, b) = random_numbers(), [result["random"] for result in results]
    assert not torch.equal(a["own"], b["own"])
    torch.manual_seed(fold(0, 0, 5))
    assert torch.equal(one["own"], torch.rand(4))
    torch.manual_seed(fold(0, 0, 5))
    assert torch.equal(torch.cat([a["common"], b["common"]]), torch.rand(8))


if __name__ == "__main__":
    main(sys.argv[1])

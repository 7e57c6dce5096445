"""What `perf.apply` switches on, and that results differ by rounding at most."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning import perf
from gan_lightning.ema import EMA
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.penalties import R1
from gan_lightning.perf.cuda_graphs import GraphedStep
from gan_lightning.perf.malloc import KeepFreedMemory
from gan_lightning.perf.split_linear import SplitLinear
from tests.helpers import fit, tiny_gan, weights


def trainer(device: str = "cpu") -> Any:
    return SimpleNamespace(callbacks=[], strategy=SimpleNamespace(root_device=torch.device(device)))


def gan() -> GAN:
    return tiny_gan(penalty=R1(gamma=1.0), ema=lambda network: EMA(network, half_life=1, rampup_ratio=1))


def test_nothing_changes_by_itself() -> None:
    applied, before = gan(), gan()
    perf.apply(applied, watched := trainer(), cpu_tuning=False, compile=False, cuda_graphs=False)
    assert watched.callbacks == []
    assert applied.__dict__.keys() == before.__dict__.keys()
    assert [type(module) for module in applied.modules()] == [type(module) for module in before.modules()]
    assert not any(module._compiled_call_impl for module in applied.modules())


def test_cpu_tuning_trains_to_the_same_weights() -> None:
    threads = torch.get_num_threads()
    tuned, expected = gan(), gan()
    perf.apply(tuned, watched := trainer(), cpu_tuning=True, compile=False, cuda_graphs=False)
    assert [type(callback) for callback in watched.callbacks] == [KeepFreedMemory]
    assert {type(module) for module in tuned.modules() if isinstance(module, nn.Linear)} == {SplitLinear}
    torch.set_num_threads(2)
    try:
        for each in (tuned, expected):
            fit(each, steps=4)
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(weights(tuned), weights(expected))


def test_compiled_networks_are_not_split(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr("gan_lightning.perf.compile.compile_networks", compiled.append)
    applied = gan()
    perf.apply(applied, trainer(), cpu_tuning=True, compile=True, cuda_graphs=False)
    assert compiled == [applied]
    assert not any(isinstance(module, SplitLinear) for module in applied.modules())


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InputError, match=r"^compile=true: .*compiler.*use compile=false$"):
        perf.apply(gan(), trainer(), cpu_tuning=False, compile=True, cuda_graphs=False)


def test_both_networks_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name)
    applied = gan()
    names = list(applied.state_dict())
    perf.apply(applied, trainer(), cpu_tuning=False, compile=True, cuda_graphs=False)
    compiled = [module for module in applied.modules() if module._compiled_call_impl]
    assert compiled == [applied.generator, applied.discriminator]
    assert list(applied.state_dict()) == names


def test_cuda_graphs_replace_the_step() -> None:
    applied = gan()
    perf.apply(applied, trainer("cuda"), cpu_tuning=False, compile=False, cuda_graphs=True)
    assert isinstance(applied.step, GraphedStep)


def test_cuda_graphs_need_a_gpu() -> None:
    with pytest.raises(InputError, match=r"^cuda_graphs=true: needs a CUDA GPU.*use cuda_graphs=false$"):
        perf.apply(gan(), trainer("cpu"), cpu_tuning=False, compile=False, cuda_graphs=True)

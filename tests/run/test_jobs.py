"""Processes that torchrun or SLURM has started: two nodes with a device each, on one machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from gan_lightning.run import config
from tests.helpers import ROOT, SMALL, command, last, metrics

SLURM = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "47", "SLURM_JOB_NAME": "train"}
NODES = ["trainer.num_nodes=2", "trainer.devices=1"]


@pytest.fixture(autouse=True)
def _outside_of_any_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [key for key in os.environ if key.startswith(("SLURM", "TORCHELASTIC", "WORLD_SIZE"))]:
        monkeypatch.delenv(key)


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"WORLD_SIZE": "1"}, "T"),
        (SLURM, "47"),
        (SLURM | {"SLURM_STEP_ID": "3"}, "47-3"),
        (SLURM | {"SLURM_JOB_NAME": "bash"}, "T"),
        (SLURM | {"SLURM_NTASKS": "1"}, "T"),
        (SLURM | {"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}, "47"),
        ({"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "a1"}, "a1"),
    ],
)
def test_all_processes_of_a_job_have_one_run_folder(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str
) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    config.register_resolvers()
    assert OmegaConf.create({"a": "${run_dir:null,null,article,T}"}).a == f"outputs/article/{name}"


def test_processes_without_a_common_name_need_a_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = command("train", cwd=tmp_path)
    assert done.stderr == "hydra.run.dir: must be the same for all 2 processes; add hydra.run.dir=FOLDER\n"
    assert done.returncode == 1


def launch(commands: list[list[str]], environments: list[dict[str, str]], cwd: Path) -> None:
    """Run one command per node at the same time."""
    nodes = [
        subprocess.Popen(
            [sys.executable, *arguments, *SMALL, *NODES],
            cwd=cwd,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for arguments, environment in zip(commands, environments, strict=True)
    ]
    for node in nodes:
        _, errors = node.communicate(timeout=300)
        assert node.returncode == 0, errors


def check(run: Path) -> None:
    """Check that both nodes trained one GAN, and that one of them wrote it."""
    assert last(run)["ImageDataModule"] == {"step": 12, "global_batch_size": 2 * 64}
    assert metrics(run)["images_seen"] == 12 * 2 * 64
    assert len(list(run.glob("tensorboard/events*"))) == 1


@pytest.mark.slow
def test_torchrun(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1"]
    command_line = [f"--master-port={port}", "-m", "gan_lightning.train", "hydra.run.dir=run"]
    launch([[*torchrun, f"--node-rank={rank}", *command_line] for rank in range(2)], [{}, {}], tmp_path)
    check(tmp_path / "run")


@pytest.mark.slow
def test_slurm(tmp_path: Path) -> None:
    common = SLURM | {"SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NODELIST": "localhost"}
    tasks = [common | {f"SLURM_{key}": str(n) for key in ("PROCID", "NODEID")} | {"SLURM_LOCALID": "0"} for n in (0, 1)]
    launch([["-m", "gan_lightning.train"]] * 2, tasks, tmp_path)
    check(tmp_path / "outputs" / "default" / "47")

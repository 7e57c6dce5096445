import os
import threading
from pathlib import Path

import pytest

from gan_lightning.run import resources

GPU = {"accelerator": "auto", "devices": 1}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(resources, "cores", lambda: 8)
    return tmp_path


def test_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for visible, names in (("", []), ("-1", []), ("0, 2", ["0", "2"]), ("GPU-8f/1", ["GPU-8f/1"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert resources.gpus() == names
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert resources.gpus() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 0\necho 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    assert resources.gpus() == ["0", "1"]
    program.write_text("#!/bin/sh\necho no driver\nexit 9\n")
    assert resources.gpus() == []


@pytest.mark.parametrize(
    ("trainer", "gpus", "jobs"),
    [
        (GPU, 1, 4),
        (GPU | {"devices": 2}, 2, 2),
        (GPU | {"devices": 8}, 4, 1),
        (GPU | {"devices": -1}, 4, 1),
        (GPU | {"devices": "auto"}, 4, 1),
        (GPU | {"devices": "0,1"}, 0, 8),  # named by the user
        (GPU | {"accelerator": "cpu"}, 0, 8),
        ({}, 0, 8),
    ],
)
def test_jobs_at_once(trainer: dict, gpus: int, jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert resources.gpus_of_a_job(trainer) == gpus
    assert resources.jobs_at_once(trainer) == jobs


def test_devices_of_a_job() -> None:
    for devices, number in ((2, 2), ("3", 3), ([0, 1], 2), ("0,1", 2), ("4,", 1)):
        assert resources.devices_of_a_job({"devices": devices}) == number
    assert resources.devices_of_a_job({}) == 1
    with pytest.raises(ValueError, match=r"^trainer\.devices=auto: must be a number"):
        resources.devices_of_a_job({"devices": "auto"})


def test_no_two_jobs_have_the_same_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4,5")
    taken, seen, wrong = set(), [], []

    def job() -> None:
        with resources.share(GPU, jobs=3) as variables:
            seen.append(variables)
            name = variables["CUDA_VISIBLE_DEVICES"]
            wrong.extend([name] if name in taken else [])
            taken.add(name)
            threading.Event().wait(0.05)
            taken.remove(name)

    threads = [threading.Thread(target=job) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not wrong
    assert len(seen) == 9
    assert {variables["CUDA_VISIBLE_DEVICES"] for variables in seen} == {"3", "4", "5"}
    assert {variables["OMP_NUM_THREADS"] for variables in seen} == {"2"}  # a third of 8 cores
    with resources.share(GPU | {"devices": 2}, jobs=1) as variables:
        assert variables == {"CUDA_VISIBLE_DEVICES": "3,4", "OMP_NUM_THREADS": "5"}


def test_jobs_on_the_cpu_share_its_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with resources.share({}, jobs=4, folder=tmp_path) as first, resources.share({}, jobs=4, folder=tmp_path) as second:
        assert first == second == {"OMP_NUM_THREADS": "2"}
        assert {path.name for path in tmp_path.iterdir()} == {"queue.lock", "0.lock", "1.lock"}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with resources.share({}, jobs=4) as variables:
        assert variables == {}  # the user's own

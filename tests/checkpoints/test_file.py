"""Checkpoint files: complete or not there, and refused if damaged, without running what is in them."""

import os
import pickle
import random
import re
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch

from gan_lightning.checkpoints import file as checkpoint_file
from gan_lightning.checkpoints.file import CheckpointIO
from gan_lightning.errors import InputError
from tests.helpers import ROOT, call, same

CONTENT: dict[str, Any] = {
    "hyper_parameters": {"config": {"k": 1}, "format_version": 2},
    "state_dict": {f"layer.{i}": torch.arange(i, i + 2000.0) for i in range(3)},
    "global_step": 7,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    checkpoint_file.write(CONTENT, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def refusal(path: Path) -> str:
    """Return the message with which a file is refused."""
    with pytest.raises(InputError) as refused:
        checkpoint_file.read(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_reads_what_was_written(path: Path) -> None:
    assert same(checkpoint_file.read(path), CONTENT)
    assert same(torch.load(path, weights_only=True), CONTENT)  # by others too
    assert [p.name for p in path.parent.iterdir()] == ["a.ckpt"]


def test_a_file_without_a_checksum_is_read_if_the_archives_own_agree(path: Path) -> None:
    torch.save(CONTENT, path)
    assert same(checkpoint_file.read(path), CONTENT)
    content = bytearray(path.read_bytes())
    content[content.index(np.arange(2000, dtype=np.float32)[1000:1010].tobytes())] ^= 1
    path.write_bytes(content)
    assert "damaged" in refusal(path)


def test_altered_files_are_refused(path: Path) -> None:
    """Flip one bit anywhere: in tensors, names, headers, padding or the checksum itself."""
    original, chance = path.read_bytes(), random.Random(0)
    for _ in range(300):
        content = bytearray(original)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        assert re.match(rf"checkpoint={path}: .*(damaged|not a checkpoint)", refusal(path))


def test_truncated_files_are_refused(path: Path) -> None:
    original, chance = path.read_bytes(), random.Random(0)
    for size in [0, 1, 2, 30, len(original) - 1, *(chance.randrange(len(original)) for _ in range(50))]:
        path.write_bytes(original[:size])
        assert re.match(rf"checkpoint={path}: .*(damaged|not a checkpoint)", refusal(path))


def test_compressed_archives_are_refused(path: Path) -> None:
    """A small file could hold more than the memory."""
    with zipfile.ZipFile(path.with_name("bomb"), "w", zipfile.ZIP_DEFLATED) as bomb, zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            bomb.writestr(name, archive.read(name))
    assert "not a checkpoint" in refusal(path.with_name("bomb"))


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_code_is_not_run(tmp_path: Path, legacy: bool) -> None:
    file, mark = tmp_path / "evil.ckpt", tmp_path / "mark"
    torch.save(CONTENT | {"state_dict": Evil(mark)}, file, _use_new_zipfile_serialization=not legacy)
    assert "not a checkpoint" in refusal(file)
    file.write_bytes(pickle.dumps(Evil(mark)))
    assert "not a checkpoint" in refusal(file)
    assert not mark.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"state_dict": {"x": "text"}},
        {"state_dict": []},
        {"global_step": -1},
        {"global_step": "7"},
        {"hyper_parameters": {"config": []}},
        {"hyper_parameters": {}},
        {"hyper_parameters": None},
    ],
)
def test_content_of_another_shape_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^checkpoint=a.ckpt: not a checkpoint"):
        checkpoint_file.check_content(CONTENT | change, Path("a.ckpt"))


def test_a_checkpoint_is_written_completely_or_not_at_all(path: Path) -> None:
    with pytest.raises(Exception, match=r"pickle|local object"):
        checkpoint_file.write({"n": 2, "unpicklable": lambda: None}, path)
    assert same(CheckpointIO().load_checkpoint(path), CONTENT)
    assert [p.name for p in path.parent.iterdir()] == ["a.ckpt"]


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    state = {"callbacks": {"best": np.float64(3)}}
    with pytest.raises(InputError, match=r"^checkpoint: .*numpy\S+scalar; must be tensors, numbers"):
        CheckpointIO().save_checkpoint(state, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


def test_torchs_own_error_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(state: dict[str, int], file: IO[bytes]) -> None:
        file.write(b"half")
        raise RuntimeError("unexpected pos 4 vs 8")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(InputError, match=r"last.ckpt: could not be written: is the disk full\?"):
        checkpoint_file.write({"step": 1}, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


def test_a_write_beyond_the_limit_keeps_the_previous_file(path: Path) -> None:
    """The limit on a file's size is a full disk that needs no privileges."""
    program = f"""
import resource, torch
from pathlib import Path
from gan_lightning.checkpoints import file as checkpoint_file
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
checkpoint_file.write({{"state_dict": {{"x": torch.zeros(100_000)}}}}, Path({str(path)!r}))
"""
    done = call("-c", program, cwd=ROOT)
    assert "InputError" in done.stderr
    assert f"{path}: could not be written" in done.stderr
    assert same(checkpoint_file.read(path), CONTENT)
    assert [p.name for p in path.parent.iterdir()] == ["a.ckpt"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"could not be written: (Not a directory|File exists)"):
        checkpoint_file.write(CONTENT, tmp_path / "file" / "a.ckpt")


@pytest.mark.parametrize("name", ["data.pkl", "DATA.PKL"])
def test_a_small_file_cannot_need_much_memory(tmp_path: Path, name: str) -> None:
    pickled = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + (3 * 10**9).to_bytes(5, "little") + b"\x85R."
    with zipfile.ZipFile(tmp_path / "small.ckpt", "w") as archive:
        archive.writestr(f"archive/{name}", pickled)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    assert "it contains builtins bytearray" in refusal(tmp_path / "small.ckpt")
    repeated = torch.zeros(1).expand(40_000, 50_000)
    checkpoint_file.write(CONTENT | {"optimizer_states": [{"state": {0: {"exp_avg": repeated}}}]}, tmp_path / "a.ckpt")
    assert "its tensors would need 8000" in refusal(tmp_path / "a.ckpt")

"""Archives and unpacked files that are damaged."""

import random
import shutil
from pathlib import Path

import pytest
from torchvision.datasets import CIFAR10, MNIST

from gan_lightning.data.integrity import check_archives
from gan_lightning.errors import InputError
from tests.helpers import ROOT, SMALL, command

RAW = ROOT / "data" / "MNIST" / "raw"
SMALLEST = "t10k-labels-idx1-ubyte.gz"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A copy of the archives."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for archive in RAW.glob("*.gz"):
        shutil.copy(archive, raw)
    return raw


def alter(path: Path, chance: random.Random) -> None:
    """Truncate a file or flip one of its bits."""
    content = bytearray(path.read_bytes())
    at = chance.randrange(len(content))
    if chance.random() < 0.5:
        del content[at:]
    else:
        content[at] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def test_intact_archives_are_accepted(raw: Path) -> None:
    check_archives(MNIST, raw.parents[1], remove=False)


def test_other_data_sets_check_themselves(tmp_path: Path) -> None:
    check_archives(CIFAR10, tmp_path, remove=False)


def test_altered_archives_are_refused(raw: Path) -> None:
    chance = random.Random(0)
    for i in range(20):
        archive = sorted(raw.glob("*.gz"))[i % 4]
        original = archive.read_bytes()
        if i < 16:
            alter(archive, chance)
        else:
            archive.write_bytes(b"")
        with pytest.raises(InputError, match=rf"^{archive}: the file is damaged .*MD5.*; delete it, and"):
            check_archives(MNIST, raw.parents[1], remove=True)
        archive.write_bytes(original)


@pytest.mark.parametrize("content", [None, b""])
def test_a_damaged_unpacked_file_is_unpacked_again(raw: Path, content: bytes | None) -> None:
    unpacked = raw / SMALLEST.removesuffix(".gz")
    MNIST(raw.parents[1], train=False, download=True)
    intact = unpacked.read_bytes()
    unpacked.write_bytes(intact[:5000] + b"\xff" + intact[5001:] if content is None else content)
    with pytest.raises(InputError, match=rf"^{unpacked}: the file is damaged; delete it"):
        check_archives(MNIST, raw.parents[1], remove=False)
    check_archives(MNIST, raw.parents[1], remove=True)
    assert not unpacked.exists()
    MNIST(raw.parents[1], train=False, download=True)
    assert unpacked.read_bytes() == intact


def test_a_run_on_a_damaged_archive_ends_in_one_line(raw: Path, tmp_path: Path) -> None:
    (raw / SMALLEST).write_bytes((raw / SMALLEST).read_bytes()[:-100])
    done = command("train", *SMALL, "data.root=data", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 1
    assert "the file is damaged" in done.stderr
    assert done.stderr.count("\n") == 1

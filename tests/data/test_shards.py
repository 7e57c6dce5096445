"""Pictures in shards, from a folder and from a URL (``local:`` stands for object storage, and is downloaded from)."""

import json
import re
import runpy
import shutil
from collections import Counter
from contextlib import chdir
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lightning.data import shards
from gan_lightning.data.datamodule import ImageDataModule
from gan_lightning.data.folder import Folder
from gan_lightning.data.samplers import ShuffledBatches, shuffled_order
from gan_lightning.data.shards import Shards
from gan_lightning.errors import InputError
from gan_lightning.seeding import fold
from tests import helpers
from tests.helpers import ROOT, SMALL, assert_same_run, command, last, resume

litdata = pytest.importorskip("litdata")
downloader = pytest.importorskip("litdata.streaming.downloader")
STOP = "+callbacks.signal={_target_: tests.helpers.SignalAt, step: 5, signum: 15}"
MODES = ("RGB", "L", "RGBA", "P", "I;16")


def snippet() -> str:
    """Return the example of the documentation."""
    (code,) = re.findall(r"```python\n(# shard\.py\n.*?)```", (ROOT / "docs" / "speed.md").read_text(), re.DOTALL)
    return code


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 60 pictures of three classes and several modes in ``pictures``, and their shards in ``shards``."""
    folder, noise = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    for i in range(60):
        (folder / "pictures" / "abc"[i % 3]).mkdir(parents=True, exist_ok=True)
        pixels = Image.fromarray(noise.integers(0, 256, (9 + i % 7, 40, 3), np.uint8))
        mode = MODES[i % len(MODES)]
        image = Image.fromarray(noise.integers(0, 2**16, (9, 9), np.uint16)) if mode == "I;16" else pixels.convert(mode)
        image.save(folder / "pictures" / "abc"[i % 3] / f"{i}.png")
    code = snippet().replace('chunk_bytes="64MB", num_workers=2', 'chunk_size=7, num_workers=1, start_method="fork"')
    (folder / "shard.py").write_text(code)
    with chdir(folder):
        runpy.run_path("shard.py", run_name="__main__")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of downloaded shards."""
    monkeypatch.setattr("litdata.utilities.dataset_utilities._LITDATA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Counter[str]:
    """How often each shard has been downloaded."""
    counts: Counter[str] = Counter()
    download = downloader.LocalDownloaderWithCache.download_file

    def counted(self: object, remote: str, local: str) -> None:
        counts[Path(remote).name] += 1
        download(self, remote, local)

    monkeypatch.setattr(downloader.LocalDownloaderWithCache, "download_file", counted)
    return counts


def data_module(root: Path | str, **arguments: object) -> ImageDataModule:
    given = {"batch_size": 4, "val_size": 5, "seed": 0, "image_size": 8, "channels": 3, "in_memory": False}
    data = ImageDataModule(**{"dataset": Shards, "root": str(root), "num_workers": 0, **given, **arguments})
    data.prepare_data()
    data.setup()
    return data


def test_shards_hold_the_pictures_of_the_folder(made: Path, cache: Path) -> None:
    pictures = data_module(made / "pictures", dataset=Folder)
    for root in (str(made / "shards"), f"local:{made}/shards"):
        data = data_module(root)
        assert data.blocks == [7] * 7 + [5]
        for split in ("train", "val", "test"):
            expected, found = getattr(pictures, split), getattr(data, split)
            assert len(expected) == len(found)
            for a, b in zip(expected[torch.arange(len(expected))], found[torch.arange(len(found))], strict=True):
                assert torch.equal(a, b)
        assert torch.equal(data.train.labels, pictures.train.labels)
    assert Shards(str(made / "shards")).check(None) == "60 pictures in 9 shards"


@pytest.mark.parametrize("root", ["{}/shards", "local:{}/shards"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_do_not_depend_on_where_the_shards_are(made: Path, cache: Path, root: str, num_workers: int) -> None:
    held = data_module(made / "shards", in_memory=True)
    read = data_module(root.format(made), num_workers=num_workers)
    batches = list(read.train_dataloader())
    assert len(batches) == 49 // 4
    order = shuffled_order(49, seed=fold(0, 0), blocks=Shards(str(made / "shards")).blocks)
    assert torch.equal(batches[0][0], held.train[order[:4]][0])
    for (images, labels), (same, known) in zip(batches, held.train_dataloader(), strict=True):
        assert torch.equal(images, same)
        assert torch.equal(labels, known)


def test_a_shard_is_downloaded_once_in_a_pass_though_the_cache_is_smaller_than_the_data(
    downloads: Counter[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "shards").mkdir()
    chunks = [{"filename": f"{i}.bin", "chunk_bytes": 1000, "chunk_size": 20} for i in range(60)]
    spec = json.dumps([1, {"type": "builtins.tuple", "context": "null", "children_spec": 2 * [LEAF]}])
    config = {"data_format": ["bytes", "int"], "data_spec": spec, "compression": None, "item_loader": "PyTreeLoader"}
    (tmp_path / "shards" / "index.json").write_text(json.dumps({"chunks": chunks, "config": config}))
    for chunk in chunks:
        (tmp_path / "shards" / chunk["filename"]).write_bytes(bytes(1000))
    with pytest.raises(InputError, match=r"^data\.dataset\.cache_gb=1\.2e-05: must be at least 2\.4e-05, for 24"):
        Shards(f"local:{tmp_path}/shards", cache_gb=12e-6)
    monkeypatch.setattr(shards, "MIN_CACHED", 12)
    data = Shards(f"local:{tmp_path}/shards", cache_gb=12e-6)
    downloads.clear()
    monkeypatch.setattr(data.reader, "stream", range(1200))
    for batch in ShuffledBatches(size=len(data), batch_size=10, seed=0, blocks=data.blocks):
        for index in batch.tolist():
            data.reader.read(data.indices[index])
    assert set(downloads.values()) == {1}
    assert len(downloads) == 54
    assert len(list(data.reader.folder.glob("*.bin"))) == 12


LEAF = {"type": None, "context": None, "children_spec": []}


def test_without_a_test_set_a_tenth_is_for_testing(made: Path, cache: Path, tmp_path: Path) -> None:
    for root in (f"{made}/shards/train", f"local:{made}/shards/train"):
        data = data_module(root)
        assert [len(images) for images in (data.train, data.val, data.test)] == [44, 5, 5]
        assert data.blocks == [2] + [7] * 6 + [5]
        everything = Shards(root).reader
        for i, index in enumerate((0, 5, 53)):
            images = (data.test, data.train, data.val)[i]
            assert torch.equal(images[torch.tensor([0, 0, 4])[i : i + 1]][1], torch.tensor([everything.read(index)[1]]))
    shutil.copytree(made / "shards" / "train", tmp_path / "split" / "train")
    with pytest.raises(InputError, match=r"^data\.root=.*/split/test: has no shards, whose index\.json is missing$"):
        Shards(str(tmp_path / "split"))


def typed(root: Path | str, *overrides: str) -> list[str]:
    options = ["data=shards", f"data.root={root}", "data.image_size=8", "data.batch_size=4", "data.in_memory=false"]
    return [*options, "data.flip=true", "metrics.parzen.num_validation=2", *overrides]


def test_an_interrupted_run_on_shards_gives_the_same_bits(
    made: Path, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = helpers.run(tmp_path / "whole", *typed(f"local:{made}/shards", "data.num_workers=0"))
    shutil.rmtree(cache)
    with pytest.raises(SystemExit):
        helpers.run(tmp_path / "cut", *typed(f"local:{made}/shards", "data.num_workers=2"), STOP)
    assert last(tmp_path / "cut")["global_step"] == 6
    moved = shutil.copytree(made / "shards", tmp_path / "moved")
    cut = resume(tmp_path / "cut", "+callbacks.signal=null", f"data.root={moved}")
    assert_same_run(whole, cut)
    assert "have been added" not in caplog.text


def test_a_run_on_shards_is_evaluated_and_changes_are_noticed(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "shards", tmp_path / "shards")
    conditional = ("model.num_classes=3", "data.num_workers=0", "trainer.max_steps=2", "hydra.run.dir=run")
    done = command("train", *SMALL, *typed("shards", *conditional), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "60 pictures in 9 shards; 49 to train, 5 to validate, 6 to test" in " ".join(done.stdout.split())
    evaluate = ("evaluate", "checkpoint=run", "num_images=20")
    done = command(*evaluate, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    path = tmp_path / "shards" / "train" / "index.json"
    index = json.loads(path.read_text())
    index["chunks"].pop()
    path.write_text(json.dumps(index))
    done = command(*evaluate, cwd=tmp_path)
    assert "pictures have been added, removed or renamed" in done.stdout + done.stderr


def test_too_few_classes_are_one_line(made: Path) -> None:
    with pytest.raises(InputError, match=r"^model\.num_classes=2: must be at least 3 for this data set$"):
        data_module(made / "shards", num_classes=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index["config"].update(data_format=["pickle", "int"]), "must hold pairs"),
        (lambda index: index["config"].update(data_format=["bytes"]), "must hold pairs"),
        (lambda index: index["config"].update(compression="zstd"), "must hold pairs"),
        (lambda index: index["config"].update(format="mds"), "must hold pairs"),
        (lambda index: index["chunks"][0].update(filename="../other.bin"), "names files of other folders"),
        (lambda index: index["chunks"][0].pop("chunk_size"), "cannot be read as shards|not litdata's"),
        (lambda index: index.clear(), "cannot be read as shards|not litdata's"),
    ],
    ids=["pickle", "no label", "compressed", "mds", "outside", "no size", "empty"],
)
def test_an_index_of_another_kind_is_one_line(made: Path, tmp_path: Path, change: object, message: str) -> None:
    shutil.copytree(made / "shards" / "train", tmp_path / "shards")
    index = json.loads((tmp_path / "shards" / "index.json").read_text())
    change(index)  # type: ignore[operator]
    (tmp_path / "shards" / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=rf"^data\.root={tmp_path}/shards: .*({message})") as error:
        Shards(str(tmp_path / "shards"))
    assert "\n" not in str(error.value)


def test_a_wrong_root_is_one_line(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "file").touch()
    for root, message in {
        tmp_path / "none": "no such folder",
        tmp_path / "file": "must be a folder",
        tmp_path: "has no shards, whose index.json is missing",
        f"local:{tmp_path}": "cannot be read as shards: .*does.*n't exist.*",
    }.items():
        with pytest.raises(InputError, match=rf"^data\.root={root}: {message}$"):
            Shards(str(root))
    assert [path.name for path in tmp_path.iterdir() if path != cache] == ["file"]


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    litdata.optimize(broken, [0, 1, 2, 3], str(tmp_path / "shards"), chunk_size=4, num_workers=1, start_method="fork")
    with pytest.raises(InputError, match=r"^picture 2 of .*/shards: cannot be read as a picture: "):
        data_module(tmp_path / "shards", val_size=1, in_memory=True)


def broken(number: int) -> tuple[bytes, int]:
    """Return a picture, which is cut off for the number 2."""
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()[: 40 if number == 2 else None], 0


def test_without_litdata_the_extra_is_named(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "find_spec", lambda _: None)
    done = command("train", *SMALL, *typed(made / "shards"), "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "needs litdata; pip install 'gan-lightning[shards]'" in done.stderr

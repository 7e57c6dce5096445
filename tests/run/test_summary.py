"""The summary of a sweep: its tables and its page."""

import builtins
import csv
import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from gan_lightning.run.page import axis, log_ticks
from gan_lightning.run.ranking import read_jobs
from gan_lightning.run.summary import mean_and_spread, summarize, write_html

ODD = ["a b/c,d=1/'e'", '"<b>&|', "deep/er/and/deeper"]


def job(
    sweep: Path,
    name: int | str,
    overrides: list[str],
    metrics: Any = None,
    *,
    monitor: str = "fid",
    mode: str = "min",
    status: str = "finished",
    reason: str | None = None,
) -> Path:
    """Write a job's folder."""
    folder = sweep / str(name)
    (folder / ".hydra").mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"overrides": overrides, "status": status, "reason": reason}))
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump({"monitor": monitor, "monitor_mode": mode}))
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def names(sweep: Path) -> list[str]:
    return [row["job"] for row in summarize(sweep).rows]


def grid(sweep: Path, seeds: int = 3) -> None:
    """Write the jobs of two learning rates and a few seeds, of which the last one of the first rate failed."""
    for i in range(2 * seeds):
        lr, seed = ("1e-4", "1e-2")[i // seeds], i % seeds
        metrics = {"val_fid": 4.0 - i // seeds + seed / 10, "fid": 3.0, "train_seconds": 60.0, "num_images": 1000}
        if i == seeds - 1:
            job(sweep, i, [f"lr={lr}", f"seed={seed}"], status="failed", reason="it is broken")
        else:
            folder = job(sweep, i, [f"lr={lr}", f"seed={seed}"], metrics)
            Image.new("RGB", (600, 300), (i, 0, 0)).save(folder / "samples.png")


@pytest.mark.parametrize(("mode", "order"), [("max", ["2", "0", "3", "1"]), ("min", ["0", "2", "3", "1"])])
def test_best_first_and_failures_last(tmp_path: Path, mode: str, order: list[str]) -> None:
    how: dict[str, Any] = {"monitor": "parzen_ll", "mode": mode}
    job(tmp_path, 0, ["lr=1", "k=1"], {"parzen_ll": 9.0, "val_parzen_ll": 1.0}, **how)
    job(tmp_path, 1, ["lr=2", "k=1"], status="failed", reason="lr=2: too much | really", **how)
    job(tmp_path, 2, ["lr=3", "k=1"], {"parzen_ll": 0.0, "val_parzen_ll": 2.0}, **how)
    job(tmp_path, 3, ["lr=4", "k=1"], {"parzen_ll": 0.0, "val_parzen_ll": math.nan}, **how)
    summary = summarize(tmp_path)
    assert [row["job"] for row in summary.rows] == order
    assert summary.monitor == "val_parzen_ll"
    with (tmp_path / "summary.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["job"] for row in table] == order
    assert (table[-1]["status"], table[-1]["reason"]) == ("failed", "lr=2: too much | really")
    assert table[0]["k"] == "1"
    head, _, first, *rest = (tmp_path / "summary.md").read_text().splitlines()
    assert head == "| job | lr | status | val_parzen_ll | parzen_ll |"
    assert first.startswith(f"| {order[0]} | ")
    assert rest[-3:] == ["Ranked by val_parzen_ll, best first.", "", "- 1: lr=2: too much \\| really"]


def test_seeds_are_averaged(tmp_path: Path) -> None:
    grid(tmp_path)
    table = summarize(tmp_path).table
    means = table[table.index("lr    n") :].splitlines()
    assert " ".join(means[1].split()) == "1e-2 3 3.10 ± 0.10 3 ± 0 60 ± 0"
    assert " ".join(means[2].split()).startswith("1e-4 2 4.050 ± 0.071 ")
    assert means[-1] == "2: it is broken"
    assert "| 1e-2 | 3 | 3.10 ± 0.10 |" in (tmp_path / "summary.md").read_text()
    assert re.search(r"^5 +1e-2 +2 +finished", table, re.M)


def test_of_many_jobs_with_seeds_the_terminal_shows_the_means(tmp_path: Path) -> None:
    grid(tmp_path, seeds=7)
    lines = summarize(tmp_path).table.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["lr", "1e-2", "1e-4"]
    assert "Ranked by val_fid" in " ".join(lines)
    assert (tmp_path / "summary.md").read_text().count("finished") == 13


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], ""),
        ([2.0], "2"),
        ([0.42, 0.5, 0.46], "0.460 ± 0.040"),
        ([229.0, 232.8], "230.9 ± 2.7"),
        ([1e5, 2e5], "150000 ± 70711"),
        ([3.0, 3.0], "3 ± 0"),
        ([1e-9, 3e-9], "2e-09 ± 1.4e-09"),
    ],
)
def test_mean_and_spread(values: list[float], text: str) -> None:
    assert mean_and_spread(values) == text


def test_the_table_has_at_most_80_columns(tmp_path: Path) -> None:
    values = dict.fromkeys(("val_fid", "fid", "precision", "recall", "parzen_ll", "train_seconds"), 123.456)
    for i in range(8):
        overrides = [f"optimizer.generator.lr={i}", f"optimizer.discriminator.lr={i}", f"latent_scale={i}", f"k={i}"]
        job(tmp_path, i, overrides, values)
    reason = "k=0: must be at least 1, which is a sentence that is longer than the line of a terminal, by far"
    job(tmp_path, "n" * 100, ["k=0"], status="failed", reason=reason)
    lines = summarize(tmp_path).table.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("123.5" in line for line in lines) == 8
    assert "Ranked by val_fid, best first." in " ".join(lines)
    assert "".join(lines[-3:]).replace(" ", "") == f"{'n' * 100}:{reason}".replace(" ", "")


def test_a_long_table_is_cut_in_the_terminal_only(tmp_path: Path) -> None:
    for i in range(50):
        job(tmp_path, i, [f"k={i}"], {"fid": float(i)})
    lines = summarize(tmp_path).table.splitlines()
    assert lines[40].startswith("39 ")
    assert lines[41] == "Ranked by fid, best first. 10 more rows are in summary.md."
    assert (tmp_path / "summary.md").read_text().count("\n| ") == 51


def test_values_are_not_read_as_markup(tmp_path: Path) -> None:
    for number in range(2):
        job(tmp_path, number, [f"data.root='[a]:smile:{number}'"])
    assert all(f"'[a]:smile:{number}'" in summarize(tmp_path).table for number in range(2))


def test_only_failures(tmp_path: Path) -> None:
    job(tmp_path, 0, ["lr=1"], status="failed", reason="no")
    assert summarize(tmp_path).rows == [{"job": "0", "lr": "1", "status": "failed", "reason": "no"}]
    assert "- 0: no" in (tmp_path / "summary.md").read_text()


def test_jobs_without_metrics_are_a_list(tmp_path: Path) -> None:
    for i in range(2):
        job(tmp_path, i, ["checkpoint=a", f"seed={i}"])
    summary = summarize(tmp_path)
    assert summary.table.split() == ["job", "seed", "0", "0", "1", "1"]
    assert summary.monitor is None
    assert (tmp_path / "summary.md").read_text() == "| job | seed |\n| --- | --- |\n| 0 | 0 |\n| 1 | 1 |\n"


def test_evaluations_are_ranked_as_training_would(tmp_path: Path) -> None:
    for i, fid in enumerate((2.0, 1.0)):
        folder = job(tmp_path, i, [f"checkpoint={i}"], {"fid": fid, "val_fid": fid, "parzen_ll": 0.0})
        (folder / ".hydra" / "config.yaml").unlink()
    assert names(tmp_path) == ["1", "0"]


def test_points_are_ranked_by_coverage(tmp_path: Path) -> None:
    for i, coverage in enumerate((0.1, 0.9)):
        metrics = {"val_coverage": coverage, "coverage": coverage, "modes": 8.0, "good_samples": 1.0}
        job(tmp_path, i, [f"k={i}"], metrics, monitor="coverage", mode="max")
    assert summarize(tmp_path).table.splitlines()[0].split() == ["job", "k", "val_coverage", "modes", "good_samples"]
    assert names(tmp_path) == ["1", "0"]


def test_other_numbers_of_samples_are_not_comparable(tmp_path: Path) -> None:
    for i, number in enumerate((100, 10_000)):
        job(tmp_path, i, [f"num_images={number}"], {"val_fid": float(i), "num_images": number})
    job(tmp_path, 2, ["num_images=20000"], {"num_images": 20_000})
    assert summarize(tmp_path).table.splitlines()[0].split() == ["job", "num_images", "val_fid"]
    assert names(tmp_path) == ["1", "0", "2"]


def test_a_loss_may_rank_a_sweep(tmp_path: Path) -> None:
    for i, accuracy in enumerate((0.7, 0.5, 0.9)):
        metrics = {"accuracy": 1 - accuracy, "val_accuracy": accuracy}
        job(tmp_path, i, [], metrics, monitor="validation/accuracy", mode="max")
    assert names(tmp_path) == ["2", "0", "1"]


def test_jobs_are_found_at_any_depth(tmp_path: Path) -> None:
    for name in ("10", "9", *ODD):
        job(tmp_path, name, [f"+a.b={name}"])
    (tmp_path / "other" / ".hydra").mkdir(parents=True)
    assert names(tmp_path) == ["9", "10", *sorted(ODD, key=lambda name: (len(name), name))]
    assert {job.overrides["a.b"] for job in read_jobs(tmp_path)} == {"9", "10", *ODD}


@pytest.mark.parametrize("content", ["", "[1]", '{"fid": "x"}', '{"fid": {"a": 1}}', "[" * 20_000, "null", "é\udce9"])
@pytest.mark.parametrize("file", ["metrics.json", ".hydra/config.yaml", "job.json", "samples.png"])
def test_damaged_files(tmp_path: Path, file: str, content: str) -> None:
    job(tmp_path, 0, ["k=1"], {"fid": 1.0})
    (tmp_path / "0" / file).write_text(content, errors="surrogateescape")
    (row,) = summarize(tmp_path).rows
    assert row["job"] == "0"
    assert ("damaged" in row["reason"]) == (file == "job.json" or (file == "metrics.json" and content[:1] != "{"))
    assert write_html(tmp_path)


def test_a_damaged_job_changes_nothing_for_the_others(tmp_path: Path) -> None:
    for i in range(3):
        job(tmp_path, i, [f"k={i}", "loss=hinge"], {"fid": 1.0 + i}, mode="?")
    (tmp_path / "2" / "job.json").write_text("{")
    assert summarize(tmp_path).table.splitlines()[0].split() == ["job", "k", "status", "fid"]
    assert write_html(tmp_path)


def test_what_no_file_can_hold(tmp_path: Path) -> None:
    job(tmp_path, "a\udcff", ["k=\udc80"], {"fid": 10**400, "kid": True})
    assert summarize(tmp_path).rows[0]["k"] == "\\udc80"
    assert write_html(tmp_path)


def test_processes_may_summarize_at_once(tmp_path: Path) -> None:
    grid(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        tables = {summary.table for summary in pool.map(summarize, [tmp_path] * 32)}
    assert len(tables) == 1
    assert {path.name for path in tmp_path.glob("*summary*")} == {".summary.lock", "summary.csv", "summary.md"}


class Page(HTMLParser):
    """What a page holds: tags with attributes, and its text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.script = "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self.script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self.script = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self.script else data


def specs(path: Path) -> list[dict[str, Any]]:
    """Return the figures of a page."""
    (found,) = re.findall(r'<script type="application/json" id="specs">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(found)


def test_the_page_is_one_file(tmp_path: Path) -> None:
    grid(tmp_path)
    path = write_html(tmp_path)
    assert path == tmp_path / "summary.html"
    page = Page(path.read_text())
    assert ("html", {"lang": "en"}) in page.tags
    assert not [a for _, a in page.tags if not (a.get("src") or "data:").startswith("data:") or "href" in a]
    images = [a for tag, a in page.tags if tag == "img"]
    assert [a["alt"] for a in images][:2] == ["Samples of lr=1e-2, seed=0", "Samples of lr=1e-2, seed=1"]
    assert len(images) == 5
    assert "Mean over seeds" in page.text
    assert "3.10 ± 0.10" in page.text
    assert "it is broken" in page.text
    (figure,) = specs(path)  # one key, and seeds
    assert figure["layout"]["xaxis"]["type"] == "log"
    assert figure["data"][0]["x"] == [1e-4, 1e-2]
    assert figure["data"][0]["y"] == pytest.approx([4.05, 3.1])
    assert figure["data"][0]["error_y"]["array"] == pytest.approx([0.0707, 0.1], rel=1e-3)


def test_texts_of_files_are_escaped(tmp_path: Path) -> None:
    for i, name in enumerate(("</script><script>alert(1)</script>", "<i>&\"'")):
        folder = job(tmp_path, name, [f"a.<b>={name}", f"k={i}"], {"fid": 1.0 + i})
        Image.new("RGBA", (10, 10)).save(folder / "samples.png")
    job(tmp_path, "2", ["k=3"], status="failed", reason="<u>")
    path = write_html(tmp_path)
    assert path
    page = Page(path.read_text())
    assert not {"i", "u", "b"} & {tag for tag, _ in page.tags}
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert "<i>&\"'" in page.text
    (axis_of_names,) = [
        s["layout"]["xaxis"] for s in specs(path)[:2] if "&lt;" in s["layout"]["xaxis"]["title"]["text"]
    ]
    assert axis_of_names["ticktext"][1] == "&lt;i&gt;&amp;\"'"


def test_figures_of_two_keys(tmp_path: Path) -> None:
    for i in range(6):
        job(tmp_path, i, [f"optimizer.lr={10 ** (i % 3)}", f"loss={'ab'[i // 3]}"], {"fid": 1.0 + i, "recall": 0.5})
    path = write_html(tmp_path)
    assert path
    lr, loss, coordinates = specs(path)
    assert [trace["name"] for trace in lr["data"]] == ["a", "b"]
    assert lr["data"][1]["y"] == [4.0, 5.0, 6.0]
    assert loss["layout"]["xaxis"]["ticktext"] == ["a", "b"]
    dimensions = coordinates["data"][0]["dimensions"]
    assert [d["label"] for d in dimensions] == ["lr", "loss", "FID ↓", "Recall"]
    assert dimensions[0]["values"] == [0, 1, 2, 0, 1, 2]


def test_a_search_adds_its_figures(tmp_path: Path) -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    job(tmp_path, 0, [], {"fid": 1.0})
    figure = graph_objects.Figure(graph_objects.Scatter(y=[1, 2]), layout={"title": {"text": "History"}})
    path = write_html(tmp_path, [figure])
    assert path
    (spec,) = specs(path)
    assert spec["caption"] == "History"
    assert spec["data"][0]["type"] == "scatter"


def test_without_plotly_there_is_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = builtins.__import__

    def missing(name: str, *arguments: Any) -> Any:
        if name.startswith("plotly"):
            raise ImportError(name)
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert write_html(tmp_path) is None
    assert "pip install 'gan-lightning[sweep]'" in caplog.text


def test_axes() -> None:
    assert axis(["1e-3", "0.1", "1e-2"]).log
    assert list(axis(["10", "9"]).positions) == ["9", "10"]
    assert axis(["b", "1"]).ticks == {0.0: "1", 1.0: "b"}
    assert axis(map(str, range(1, 50))).ticks == {t: f"{t:g}" for t in (1, 2, 5, 10, 20)}
    assert log_ticks([3e-5, 0.2]) == {1e-4: "0.0001", 1e-3: "0.001", 0.01: "0.01", 0.1: "0.1"}

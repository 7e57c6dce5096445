"""Metrics as tables."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gan_lightning.metrics.tables import LABELS, WIDTH, result_cell, results_table, summarize

MEASURED = {
    "loss_discriminator": 1.339,
    "parzen_ll": -1230.81,
    "parzen_ll_se": 12.11,
    "parzen_sigma": 0.167,
    "fid": 1959.523,
    "precision": 0.817,
    "kid": 0.0256,
    "modes": 10.0,
    "mode_kl": 0.0035,
    "mode_share_max": 0.109,
}
HIGHER_IS_BETTER = {"fid": False, "kid": False, "precision": True, "parzen_ll": True, "mode_kl": False, "modes": True}
REFERENCES = {"article": {"fid": 5.04, "nearest_training": 4.92}, "paper": {"parzen_ll": 225.0}, "real images": {}}


def render(measured: dict[str, float], references: dict[str, dict[str, float]] = REFERENCES) -> list[str]:
    results = {"validation": measured, "test": measured | {"nearest_training": 4.454}}
    return results_table(results, references, HIGHER_IS_BETTER, "200 samples.").splitlines()


def row(lines: list[str], label: str) -> str:
    (found,) = [line for line in lines if line.startswith(label)]
    return found


def test_table_has_what_was_measured() -> None:
    lines = render(MEASURED)
    labels = [LABELS[name] for name in MEASURED if name != "parzen_ll_se"]
    assert all(row(lines, label) for label in [*labels, "Distance to training"])
    assert not [line for line in lines if line.startswith(("Recall", "Coverage", "parzen"))]
    assert "-1230.8 ± 12.1" in row(lines, "Parzen LL (nats)")
    assert row(lines, "Distance to training").split()[4:] == ["4.454", "4.920"]  # on test images only; the article's
    for label, value in (("FID", "1959.523"), ("KID", "0.0256"), ("Modes", "10"), ("Loss of D", "1.339")):
        assert row(lines, label).count(value) >= 2
    assert "200 samples." in lines[-1]


def test_table_says_which_values_are_better() -> None:
    lines = render(MEASURED)
    for label in ("FID ↓", "KID ↓", "Precision ↑", "Parzen LL (nats) ↑", "KL of modes (nats) ↓"):
        assert row(lines, label)
    for label in ("Parzen window σ", "Loss of D", "Distance to training"):
        assert not set("↑↓") & set(row(lines, label))
    assert "↑ higher is better, ↓ lower is better" in " ".join(lines)


@pytest.mark.parametrize("measured", [MEASURED, dict.fromkeys(LABELS, 0.5), {"accuracy": 0.5}])
def test_table_has_at_most_80_columns(measured: dict[str, float]) -> None:
    assert max(map(len, render(measured))) <= WIDTH == 80


def test_a_users_metric_has_a_row() -> None:
    assert "0.250" in row(render({"sharpness": 0.25}), "sharpness")


def test_cell() -> None:
    assert result_cell({}, "fid") == ""
    assert result_cell({"fid": 0.4609}, "fid") == "0.461"
    assert result_cell({"modes": 10.0}, "modes") == "10"
    assert result_cell({"parzen_ll": 230.81, "parzen_ll_se": 2.06}, "parzen_ll") == "230.8 ± 2.1"


def job(folder: Path, name: int | str, overrides: list[str], monitor: str, mode: str, **files: Any) -> None:
    """Write a job's folder."""
    hydra = folder / str(name) / ".hydra"
    hydra.mkdir(parents=True)
    (hydra / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    if "error" not in files:
        (hydra / "config.yaml").write_text(yaml.safe_dump({"monitor": monitor, "monitor_mode": mode}))
    for file, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / str(name) / {"metrics": "metrics.json", "error": "error.txt"}[file]).write_text(text)


@pytest.mark.parametrize(("mode", "order"), [("max", ["2", "0", "3", "1"]), ("min", ["0", "2", "3", "1"])])
def test_summary_is_best_first_and_failures_last(tmp_path: Path, mode: str, order: list[str]) -> None:
    how = ("parzen_ll", mode)
    job(tmp_path, 0, ["lr=1", "k=1"], *how, metrics={"parzen_ll": 9.0, "val_parzen_ll": 1.0})
    job(tmp_path, 1, ["lr=2", "k=1"], *how, error="lr=2: too much | really")
    job(tmp_path, 2, ["lr=3", "k=1"], *how, metrics={"parzen_ll": 0.0, "val_parzen_ll": 2.0})
    job(tmp_path, 3, ["lr=4", "k=1"], *how, metrics={"parzen_ll": 0.0})  # not finite on validation images
    _, rows, monitor = summarize(tmp_path)
    assert [row["job"] for row in rows] == order
    assert monitor == "val_parzen_ll"
    with (tmp_path / "summary.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["job"] for row in table] == order
    assert table[-1]["error"] == "lr=2: too much | really"
    assert table[0]["k"] == "1"
    head, _, first, *_, line = (tmp_path / "summary.md").read_text().splitlines()
    assert head == "| job | lr | val_parzen_ll | parzen_ll | error |"
    assert first.startswith(f"| {order[0]} | ")
    assert line == "Ranked by val_parzen_ll, best first."
    assert not list(tmp_path.glob("*.png"))


def test_the_summarys_table_has_at_most_80_columns(tmp_path: Path) -> None:
    values = dict.fromkeys(("val_fid", "fid", "precision", "recall", "parzen_ll", "train_seconds"), 123.456)
    for i in range(8):
        overrides = [f"optimizer.generator.lr={i}", f"optimizer.discriminator.lr={i}", f"latent_scale={i}"]
        job(tmp_path, i, overrides, "fid", "min", metrics=values)
    error = "k=0: must be at least 1, which is a sentence that is longer than the line of a terminal, by far"
    job(tmp_path, 8, ["k=0"], "fid", "min", error=error)
    lines = summarize(tmp_path)[0].splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("123.5" in line for line in lines) == 8
    assert "Ranked by val_fid, best first." in " ".join(lines)
    assert " ".join(lines[-2:]) == f"8: {error}"


def test_values_are_not_read_as_markup(tmp_path: Path) -> None:
    for number in range(2):
        job(tmp_path, number, [f"data.root='[a]:smile:{number}'"], "fid", "min")
    assert all(f"'[a]:smile:{number}'" in summarize(tmp_path)[0] for number in range(2))


def test_a_failed_sweep_has_a_summary(tmp_path: Path) -> None:
    job(tmp_path, 0, ["lr=1"], "fid", "min", error="no")
    assert summarize(tmp_path)[1] == [{"job": "0", "lr": "1", "error": "no"}]
    assert "no" in (tmp_path / "summary.md").read_text()


def test_a_loss_may_rank_a_sweep(tmp_path: Path) -> None:
    for number, accuracy in enumerate((0.7, 0.5, 0.9)):
        metrics = {"accuracy": 1 - accuracy, "val_accuracy": accuracy}
        job(tmp_path, number, [], "validation/accuracy", "max", metrics=metrics)
    assert [row["job"] for row in summarize(tmp_path)[1]] == ["2", "0", "1"]


def test_jobs_may_have_names(tmp_path: Path) -> None:
    for name in ("10", "9", "lr=1"):
        job(tmp_path, name, [], "fid", "min")
    assert [row["job"] for row in summarize(tmp_path)[1]] == ["9", "10", "lr=1"]


@pytest.mark.parametrize("content", ["", "[1]", '{"fid": "x"}', '{"fid": {"a": 1}}', "[" * 100_000, "null"])
@pytest.mark.parametrize("file", ["metrics.json", ".hydra/overrides.yaml", ".hydra/config.yaml"])
def test_damaged_files_of_a_sweep(tmp_path: Path, file: str, content: str) -> None:
    (tmp_path / "0" / ".hydra").mkdir(parents=True)
    (tmp_path / "0" / file).write_text(content)
    _, (row,), _ = summarize(tmp_path)
    assert row["job"] == "0"

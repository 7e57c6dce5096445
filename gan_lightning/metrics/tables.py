"""Metrics as tables, for people: one run next to reference results, and the runs of a sweep."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from textwrap import fill
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

WIDTH = 80  # characters
LABELS = {  # in the table's order
    "fid": "FID",
    "precision": "Precision",
    "recall": "Recall",
    "coverage": "Coverage",
    "density": "Density",
    "clipped_coverage": "Clipped coverage",
    "clipped_density": "Clipped density",
    "parzen_ll": "Parzen LL (nats)",
    "parzen_sigma": "Parzen window σ",
    "kid": "KID",
    "sliced_wasserstein": "Sliced Wasserstein",
    "inception_fid": "FID (Inception)",
    "modes": "Modes",
    "good_samples": "Good samples",
    "label_agreement": "Agreement with the label",
    "label_agreement_min": "Agreement, worst class",
    "mode_kl": "KL of modes (nats)",
    "mode_share_min": "Smallest mode's share",
    "mode_share_max": "Largest mode's share",
    "nearest_training": "Distance to training set",
    "nearest_training_real": "… of real images",
    "loss_discriminator": "Loss of D",
    "loss_generator": "Loss of G",
    "probability_real": "D(x)",
    "probability_fake": "D(G(z))",
    "logit_real": "Logit of x",
    "logit_fake": "Logit of G(z)",
    "accuracy": "Accuracy of D",
}
ORDER = {name: i for i, name in enumerate(LABELS)}
DIGITS = {"modes": 0, "parzen_ll": 1, "kid": 4, "sliced_wasserstein": 4, "mode_kl": 4}  # decimals; others have 3
IN_SWEEPS = ("fid", "precision", "recall", "parzen_ll", "train_seconds")  # columns besides the ranking metric


def results_table(
    results: Mapping[str, Mapping[str, float]],
    references: Mapping[str, Mapping[str, float]],
    higher_is_better: Mapping[str, bool | None],
    note: str,
) -> str:
    """Return a table of the metrics that were measured.

    Args:
        results: Values by split; see :func:`gan_lightning.metrics.evaluation.evaluate`.
        references: Values by column, to compare the results with.
        higher_is_better: For the arrows; see :func:`gan_lightning.metrics.evaluation.directions`.
        note: Printed below, with the meaning of the arrows.
    """
    columns = {"test": results["test"], "validation": results["validation"], **references}
    names = [name for name in results["test"] if not name.endswith("_se")]
    rows = []
    for name in sorted(names, key=lambda name: ORDER.get(name, len(ORDER))):
        arrow = {True: " ↑", False: " ↓", None: ""}[higher_is_better.get(name)]
        rows.append([LABELS.get(name, name) + arrow, *(result_cell(column, name) for column in columns.values())])
    note = f"↑ higher is better, ↓ lower is better. {note}"
    return text_table(["", *columns], rows, note, unbroken=1 + len(results))


def result_cell(column: Mapping[str, float], name: str) -> str:
    """Return a value of a column, with its standard error if there is one; empty if it was not measured."""
    digits = DIGITS.get(name, 3)
    error = f" ± {column[f'{name}_se']:.{digits}f}" if f"{name}_se" in column else ""
    return f"{column[name]:.{digits}f}{error}" if name in column else ""


def text_table(titles: Iterable[str], rows: Iterable[Sequence[str]], caption: str, *, unbroken: int = 1) -> str:
    """Return a table as text, at most 80 characters wide, the first column left-aligned and the others right-aligned.

    Args:
        titles: Of the columns.
        rows: Cells by column.
        caption: Printed below.
        unbroken: Number of leading columns whose cells are never wrapped.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for i, title in enumerate(titles):
        table.add_column(title, justify="right" if i else "left", overflow="fold", no_wrap=i < unbroken)
    for row in rows:
        table.add_row(*row)
    console = Console(file=StringIO(), width=WIDTH, markup=False, emoji=False)  # a cell may have [brackets]
    console.print(table)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    return "\n".join([*lines, fill(caption, WIDTH)])


def summarize(folder: Path) -> tuple[str, list[dict[str, Any]], str]:
    """Write ``summary.csv`` and ``summary.md`` of the runs in a sweep's folder.

    A run is a folder with its overrides and config in ``.hydra/`` and its ``metrics.json``, or its ``error.txt``. The
    runs are ranked by the metric they monitor, on validation images; those that failed come last. The table shows the
    overrides that differ, the ranking metric, and a few more.

    Args:
        folder: Of the sweep.

    Returns:
        The table as text; a row per run (its folder's name as "job", overrides, metrics or "error"), best first; and
        the name of the ranking metric.
    """
    runs = [run for run in folder.iterdir() if (run / ".hydra").is_dir()]
    overrides = [dict(text.split("=", 1) for text in read_overrides(run) if "=" in text) for run in runs]
    rows = [{"job": run.name} | given | read_results(run) for run, given in zip(runs, overrides, strict=True)]
    configs = [config for run in runs if isinstance(config := read_yaml(run / ".hydra" / "config.yaml"), dict)]
    first = next((config for config in configs if config.get("monitor")), {"monitor": "fid", "monitor_mode": "min"})
    monitor = first["monitor"].removeprefix("validation/")
    monitor = f"val_{monitor}" if any(f"val_{monitor}" in row for row in rows) else monitor
    sign = -1 if first["monitor_mode"] == "max" else 1

    def rank(row: dict[str, Any]) -> tuple[bool, float, float, int, str]:
        value = sign * row.get(monitor, math.nan)
        value = math.inf if math.isnan(value) else value
        others = -samples(row)  # values of different numbers of samples are not comparable
        return "error" in row, others, value, len(row["job"]), row["job"]  # job 9 before job 10

    rows.sort(key=rank)
    columns = sorted(dict.fromkeys(key for row in rows for key in row), key=lambda key: key == "error")
    with (folder / "summary.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    swept = [key for given in overrides for key in given if len({other.get(key) for other in overrides}) > 1]
    measured = [key for key in (monitor, *IN_SWEEPS, "error") if key in columns]
    titles = list(dict.fromkeys(["job", *swept, *measured]))
    note = f"Ranked by {monitor}, best first."
    numbers = sorted({samples(row) for row in rows} - {0})
    if len(numbers) > 1:
        titles.insert(1, "num_images")
        note += " Only values of the same num_images are comparable."
    elif numbers:
        note += f" Values of {numbers[0]:,} samples; val_: validation images, the others: test images."
    cells = [[markdown_cell(row.get(title, "")) for title in titles] for row in rows]
    lines = [f"| {' | '.join(line)} |\n" for line in (titles, ["---"] * len(titles), *cells)]
    (folder / "summary.md").write_text("".join(lines) + f"\n{note}\n")
    heads = [title.rpartition(".")[2] for title in titles if title != "error"]  # the last part of a key, if it is clear
    heads = [head if heads.count(head) == 1 else title for head, title in zip(heads, titles, strict=False)]
    failed = [fill(f"{row['job']}: {row['error']}", WIDTH) for row in rows if "error" in row]
    return "\n".join([text_table(heads, (line[: len(heads)] for line in cells), note), *failed]), rows, monitor


def samples(row: Mapping[str, Any]) -> int:
    """Return how many samples the metrics of a row are of; 0 if it has none. An override of that name is text."""
    return int(number) if isinstance(number := row.get("num_images"), int | float) else 0


def read_overrides(run: Path) -> list[str]:
    """Return the overrides that a run was started with."""
    content = read_yaml(run / ".hydra" / "overrides.yaml")
    return [text for text in content if isinstance(text, str)] if isinstance(content, list) else []


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file, or None if there is none or it is damaged."""
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None


def read_results(run: Path) -> dict[str, Any]:
    """Return a run's metrics, or why it failed."""
    metrics, error = run / "metrics.json", run / "error.txt"
    if metrics.exists():
        try:
            values = json.loads(metrics.read_text())
            return {name: value for name, value in values.items() if isinstance(value, int | float)}
        except (ValueError, AttributeError, RecursionError):
            return {"error": "metrics.json is damaged; remove it, and evaluate or resume the run"}
    return {"error": error.read_text()} if error.exists() else {}


def markdown_cell(value: Any) -> str:
    """Return a value for a Markdown table: floats with four significant digits, ``|`` escaped."""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")

"""The summary of a sweep, or of a search: its jobs, tables for people and programs, and a page with figures."""

import csv
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import mean, stdev
from textwrap import fill
from typing import Any

from filelock import FileLock

from gan_lightning.metrics.tables import WIDTH, text_table
from gan_lightning.run.files import acquire, write
from gan_lightning.run.page import Table, render
from gan_lightning.run.ranking import Job, Ranking, rank, read_jobs, sample_numbers, samples, short

log = logging.getLogger(__name__)

MANY = 12  # with more jobs, the terminal shows only the means over seeds
ROWS = 40  # the most of a table in the terminal
CELL = 24  # the most characters of its cells


@dataclass(frozen=True)
class Summary:
    """What :func:`summarize` has written.

    Attributes:
        table: For a terminal.
        rows: One per job, best first: its name as "job", its overrides, metrics, "status" and "reason".
        monitor: The ranking metric; None if there are no metrics.
    """

    table: str
    rows: list[dict[str, Any]]
    monitor: str | None


def summarize(folder: Path) -> Summary:
    """Write ``summary.csv`` and ``summary.md`` of a sweep's folder; several processes may do so at once."""
    with summary_lock(folder):
        ranking = rank(read_jobs(folder))
        rows = [as_row(job) for job in ranking.jobs]
        write(folder / "summary.csv", as_csv(rows))
        write(folder / "summary.md", as_markdown(ranking))
    return Summary(as_text(ranking), rows, ranking.monitor)


def write_html(folder: Path, figures: Sequence[Any] = ()) -> Path | None:
    """Write ``summary.html``, a page with tables, figures and samples that needs no other file and no network.

    Args:
        folder: Of the sweep.
        figures: Of plotly, to be added to the page's own.

    Returns:
        Its path; None if plotly is not installed, which is logged.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        log.warning("No summary.html without plotly: pip install 'gan-lightning[sweep]'")
        return None
    ranking = rank(read_jobs(folder))
    tables = {"Jobs": job_table(ranking)} if ranking.jobs else {}
    if ranking.over_seeds:
        tables = {"Mean over seeds": seed_table(ranking)} | tables
    path = folder / "summary.html"
    write(path, render(folder.absolute().name, ranking, tables, figures, plotly=get_plotlyjs()))
    return path


def as_row(job: Job) -> dict[str, Any]:
    """Return a job for ``summary.csv`` and for programs; a metric takes precedence over an override of its name."""
    end = {"status": job.status, "reason": job.reason or ""}
    return {"job": job.name} | job.overrides | job.metrics | end | {"job": job.name}


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as CSV, with the columns of all of them, status and reason at the end."""
    end = ("status", "reason")
    columns = sorted(dict.fromkeys(["job", *(key for row in rows for key in row), *end]), key=lambda key: key in end)
    text = StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def job_table(ranking: Ranking) -> Table:
    """Return a table with a row per job: what was swept, the ranking metric, and a few more."""
    jobs, metrics = ranking.jobs, ranking.columns
    several = ["num_images"] if len(sample_numbers(jobs)) > 1 else []
    status = ["status"] if any(job.status != "finished" for job in jobs) else []
    keys = list(dict.fromkeys(["job", *several, *ranking.swept, *status]))
    rows = []
    for job in jobs:
        known = job.overrides | {"job": job.name, "num_images": str(samples(job) or ""), "status": job.status}
        cells = [number(job.metrics[name]) if name in job.metrics else "" for name in metrics]
        rows.append([*(known.get(key, "") for key in keys), *cells])
    return Table(keys, metrics, rows)


def seed_table(ranking: Ranking) -> Table:
    """Return a table of each setting's metrics: mean ± standard deviation over the n jobs that have the ranking one."""
    swept, metrics = [key for key in ranking.swept if key != "seed"], ranking.columns
    rows = []
    for jobs in ranking.settings:
        cells = [mean_and_spread(ranking.values(jobs, name)) for name in metrics]
        rows.append([*(jobs[0].overrides.get(key, "") for key in swept), str(len(ranking.values(jobs))), *cells])
    return Table([*swept, "n"], metrics, rows)


def number(value: float) -> str:
    """Return a value with four significant digits; integers with all of theirs."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def mean_and_spread(values: Sequence[float]) -> str:
    """Return the mean of values ± their standard deviation with two significant digits, none if there is one value."""
    if len(values) < 2:
        return number(float(values[0])) if values else ""
    center, spread = mean(values), stdev(values)
    digits = 1 - math.floor(math.log10(spread)) if spread else 9
    if digits > 6:
        return f"{center:.4g} ± {spread:.2g}"
    return f"{center:.{max(digits, 0)}f} ± {spread:.{max(digits, 0)}f}"


def note(ranking: Ranking) -> str:
    """Return what ranks the jobs, and what the values are of."""
    if not ranking.monitor:
        return ""
    text, numbers = f"Ranked by {ranking.monitor}, best first.", sample_numbers(ranking.jobs)
    if len(numbers) > 1:
        text += " Only values of the same num_images are comparable."
    elif numbers:
        text += f" Values of {numbers[0]:,} samples; val_: validation images, the others: test images."
    return text


def as_markdown(ranking: Ranking) -> str:
    """Return the tables as Markdown, and why jobs did not finish."""
    parts = [markdown_table(job_table(ranking)), note(ranking)]
    if ranking.over_seeds:
        parts += [markdown_table(seed_table(ranking)), "Mean ± standard deviation over n seeds."]
    reasons = [f"- {markdown_cell(job.name)}: {markdown_cell(job.reason)}" for job in ranking.jobs if job.reason]
    return "\n\n".join(filter(None, [*parts, "\n".join(reasons)])) + "\n"


def markdown_table(table: Table) -> str:
    """Return a table as Markdown."""
    titles = [*table.keys, *table.metrics]
    lines = [[markdown_cell(cell) for cell in row] for row in (titles, *table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], ["---"] * len(titles), *lines[1:]))


def markdown_cell(text: str) -> str:
    """Return a text on one line, without what Markdown takes as a column or a tag."""
    return " ".join(text.split("\n")).replace("|", "\\|").replace("<", "\\<")


def as_text(ranking: Ranking) -> str:
    """Return the tables for a terminal, and why jobs did not finish."""
    parts = []
    if not ranking.over_seeds or len(ranking.jobs) <= MANY:
        parts.append(narrow_table(job_table(ranking), note(ranking)))
    if ranking.over_seeds:
        caption = "Mean ± standard deviation over n seeds."
        parts.append(narrow_table(seed_table(ranking), caption if parts else f"{caption} {note(ranking)}"))
    reasons = [fill(f"{job.name}: {job.reason}", WIDTH) for job in ranking.jobs if job.reason]
    more = [f"... and {len(reasons) - MANY} more in summary.md"] if len(reasons) > MANY else []
    return "\n\n".join(filter(None, [*parts, "\n".join([*reasons[:MANY], *more])]))


def narrow_table(table: Table, caption: str) -> str:
    """Return a table at most 80 characters wide: the first rows, without the last metrics if there is no room."""
    titles = [*short(table.keys), *table.metrics]
    rows = [[shortened(cell) for cell in row] for row in table.rows[:ROWS]]
    widths = [max(len(row[i]) for row in (titles, *rows)) + 2 for i in range(len(titles))]
    least = len(table.keys) + 1  # the ranking metric
    end = next((n for n in range(len(titles), least, -1) if sum(widths[:n]) <= WIDTH + 2), least)
    if len(table.rows) > ROWS:
        caption += f" {len(table.rows) - ROWS} more rows are in summary.md."
    return text_table(titles[:end], (row[:end] for row in rows), caption)


def shortened(text: str) -> str:
    """Return a cell without the middle of a long text."""
    return text if len(text) <= CELL else f"{text[: CELL // 2]}…{text[1 - CELL // 2 :]}"


@contextmanager
def summary_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a sweep's summary. Without one, the summary may miss what another process has just written."""
    lock = FileLock(folder / ".summary.lock")
    acquire(lock, timeout=60)
    try:
        yield
    finally:
        lock.release()

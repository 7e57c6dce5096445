"""A sweep's summary as one HTML page: tables, figures and samples, with everything in one file."""

import base64
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from statistics import mean, stdev
from string import Template
from typing import Any

from PIL import Image

from gan_lightning.metrics.tables import LABELS
from gan_lightning.run.ranking import Job, Ranking, sample_numbers, short

PAGE = Path(__file__).with_name("page.html")
SAMPLES_WIDTH = 300  # pixels
TICKS = 8  # the most values of a key that an axis names one by one
LONG = 40  # characters of a text that is shortened or wrapped
CATEGORIES = 20  # the most of an axis
SERIES = 6  # the most values of a second key that have a color each


@dataclass(frozen=True)
class Table:
    """Cells as text.

    Attributes:
        keys: Titles of the first columns.
        metrics: Titles of the others.
        rows: Of cells.
    """

    keys: list[str]
    metrics: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Axis:
    """The values of a key along an axis; categories are numbered.

    Attributes:
        positions: By value as typed.
        log: Whether the values are numbers that span more than a decade.
        ticks: Labels by position; empty for numbers of which there are many.
    """

    positions: dict[str, float]
    log: bool
    ticks: dict[float, str]


def render(name: str, ranking: Ranking, tables: Mapping[str, Table], figures: Sequence[Any], *, plotly: str) -> str:
    """Return the page.

    Args:
        name: Of the sweep.
        ranking: Its jobs.
        tables: By title.
        figures: Of plotly, shown after the page's own.
        plotly: The library's JavaScript.
    """
    own = [figure_of_key(ranking, key) for key in drawn_keys(ranking)]
    specs = [*own, *parallel_coordinates(ranking), *map(spec_of, figures)]
    contents = {
        "title": escape(f"Sweep of {', '.join(ranking.swept)}" if ranking.swept else "Sweep"),
        "subtitle": escape(name),
        "facts": facts(ranking),
        "tables": "".join(section(title, html_table(table)) for title, table in tables.items()),
        "figures": section("Figures", "".join(map(figure_frame, specs)), "figures") if specs else "",
        "samples": samples_section(ranking),
        "unfinished": unfinished_section(ranking),
        "specs": json.dumps(specs).replace("<", "\\u003c"),
        "plotly": plotly,
    }
    return Template(PAGE.read_text(encoding="utf-8")).substitute(contents)


def drawn_keys(ranking: Ranking) -> list[str]:
    """Return the swept keys whose values fit on an axis: numbers, or not too many categories."""
    keys = [key for key in ranking.swept if key != "seed" and ranking.monitor]
    return [key for key in keys if len(axis(values_of(ranking, key)).ticks) <= CATEGORIES]


def values_of(ranking: Ranking, key: str) -> list[str]:
    """Return the values of a key in all jobs that have it."""
    return [job.overrides[key] for job in ranking.jobs if key in job.overrides]


def section(title: str, content: str, kind: str = "") -> str:
    """Return a section with a heading; the content is HTML."""
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{content}</section>\n'


def facts(ranking: Ranking) -> str:
    """Return a list of how many jobs there are, by status, of what was swept, and of what ranks the jobs."""
    statuses = [job.status for job in ranking.jobs]
    counts = [f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses)]
    lines = {"jobs": ", ".join(counts) or "none"}
    for key in ranking.swept:
        values = list(axis(values_of(ranking, key)).positions)
        many = len(values) > TICKS
        lines[key] = f"{len(values)} values, from {values[0]} to {values[-1]}" if many else ", ".join(values)
    if ranking.monitor:
        lines["ranked by"] = f"{label(ranking.monitor)}; {'lower' if ranking.mode == 'min' else 'higher'} is better"
    if numbers := sample_numbers(ranking.jobs):
        lines["values"] = f"of {' or '.join(f'{n:,}' for n in numbers)} samples, on test images if nothing else is said"
    if len(numbers) > 1:
        lines["values"] += "; those of different numbers are not comparable"
    items = [f"<dt>{escape(key)}</dt><dd>{escape(line)}</dd>" for key, line in lines.items()]
    return f"<dl>{''.join(items)}</dl>"


def label(name: str, ranking: Ranking | None = None) -> str:
    """Return a metric's name for people; with an arrow if it ranks the jobs."""
    text = LABELS.get(name.removeprefix("val_"), {"train_seconds": "Seconds"}.get(name, name.removeprefix("val_")))
    text += ", validation" if name.startswith("val_") else ""
    arrow = {"min": " ↓", "max": " ↑"}[ranking.mode] if ranking and name == ranking.monitor else ""
    return text + arrow


def html_table(table: Table) -> str:
    """Return a table whose rows can be sorted by a click on a title, and which scrolls if it is large."""
    full = [*table.keys, *table.metrics]
    titles = zip([*short(table.keys), *map(label, table.metrics)], full, strict=True)
    head = "".join(f'<th scope=col title="{escape(key)}"><button>{escape(text)}</button></th>' for text, key in titles)
    lines = ["".join(map(html_cell, row)) for row in table.rows]
    body = "".join(f"<tr{'' if i else ' class=best'}>{line}</tr>\n" for i, line in enumerate(lines))
    return f"<div class=wide tabindex=0><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def html_cell(text: str) -> str:
    """Return a cell of a table; only long texts are wrapped."""
    return f"<td{' class=long' if len(text) > LONG else ''}>{escape(text)}</td>"


def axis(values: Iterable[str]) -> Axis:
    """Return where to draw the values of a key, in their order along the axis."""
    distinct = sorted(set(values))
    numbers = {value: as_number(value) for value in distinct}
    if not distinct or not all(map(math.isfinite, numbers.values())):
        return Axis({value: float(i) for i, value in enumerate(distinct)}, False, dict(enumerate(distinct)))
    positions = dict(sorted(numbers.items(), key=lambda pair: pair[1]))
    log = spans_decade(positions.values())
    if len(positions) <= TICKS:
        return Axis(positions, log, {position: value for value, position in positions.items()})
    return Axis(positions, log, log_ticks(positions.values()) if log else {})


def spans_decade(values: Collection[float]) -> bool:
    """Return whether values are positive and the largest is more than ten times the smallest."""
    return bool(values) and 0 < 10 * min(values) < max(values)


def log_ticks(values: Collection[float]) -> dict[float, str]:
    """Return the labels of a logarithmic axis by value: powers of ten, on a short one their doubles and halves, too."""
    low, high = min(values), max(values)
    steps = (1, 2, 5) if high < 200 * low else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{step}e{power}") for power in powers for step in steps]
    return {tick: f"{tick:g}" for tick in ticks if low <= tick <= high}


def as_number(text: str) -> float:
    """Return an override's value as a number; nan if it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def cut(text: str) -> str:
    """Return the beginning of a long text."""
    return text if len(text) <= LONG else f"{text[: LONG - 1]}…"


def plotly_text(text: str) -> str:
    """Return a text for plotly, which knows a few tags; a long one is cut."""
    return escape(cut(text), quote=False)


def layout_axis(title: str, log: bool, ticks: Mapping[float, str]) -> dict[str, Any]:
    """Return an axis of a layout."""
    settings: dict[str, Any] = {"title": {"text": plotly_text(title)}, "type": "log" if log else "linear"}
    if ticks:
        settings |= {"tickvals": [*ticks], "ticktext": [*map(plotly_text, ticks.values())]}
    return settings


def figure_of_key(ranking: Ranking, key: str) -> dict[str, Any]:
    """Return a figure of the ranking metric against a key: means over seeds, with their standard deviations.

    If exactly one more key was swept, each of its values has a color.
    """
    others = [other for other in ranking.swept if other not in (key, "seed")]
    groups = [jobs for jobs in ranking.settings if ranking.values(jobs) and key in jobs[0].overrides]
    scale = axis([jobs[0].overrides[key] for jobs in groups])
    colored = others if len(others) == 1 else []
    series: dict[str, list[list[Job]]] = {}
    for jobs in groups:
        series.setdefault(jobs[0].overrides.get(colored[0], "") if colored else "", []).append(jobs)
    if len(series) > SERIES:
        series, colored = {"": groups}, []
    traces = [trace(ranking, key, scale, series[name], name) for name in axis([*series]).positions]
    values = [mean(ranking.values(jobs)) for jobs in groups]
    log = spans_decade(values)
    layout = {
        "xaxis": layout_axis(key, scale.log, scale.ticks),
        "yaxis": layout_axis(label(ranking.monitor or "", ranking), log, log_ticks(values) if log else {}),
        "showlegend": bool(colored),
        "legend": {"title": {"text": plotly_text(colored[0]) if colored else ""}},
    }
    spread = "; bars are standard deviations over seeds" if "seed" in ranking.swept else ""
    caption = f"{label(ranking.monitor or '')} against {key}{spread}"
    return {"caption": caption, "data": traces, "layout": layout, "wide": False}


def trace(ranking: Ranking, key: str, scale: Axis, groups: Sequence[list[Job]], name: str) -> dict[str, Any]:
    """Return the points of a figure, joined where each value has one."""
    ordered = sorted(groups, key=lambda jobs: scale.positions[jobs[0].overrides[key]])
    values = [ranking.values(jobs) for jobs in ordered]
    positions = [scale.positions[jobs[0].overrides[key]] for jobs in ordered]
    spreads = [stdev(numbers) if len(numbers) > 1 else 0.0 for numbers in values]
    joined = len(set(positions)) == len(positions) <= TICKS
    return {
        "type": "scatter",
        "mode": "lines+markers" if joined else "markers",
        "name": plotly_text(name),
        "x": positions,
        "y": [mean(numbers) for numbers in values],
        "error_y": {"array": spreads, "visible": any(spreads)},
        "text": ["<br>".join(map(plotly_text, described(ranking, jobs[0], without="seed"))) for jobs in ordered],
        "hovertemplate": "%{text}<br>%{y:.4g}<extra></extra>",
    }


def described(ranking: Ranking, job: Job, without: str = "") -> list[str]:
    """Return the overrides of a job that differ between jobs, with short keys; its name if there are none."""
    keys = [key for key in ranking.swept if key != without and key in job.overrides]
    pairs = zip(short(ranking.swept), ranking.swept, strict=True)
    return [f"{head}={job.overrides[key]}" for head, key in pairs if key in keys] or [job.name]


def parallel_coordinates(ranking: Ranking) -> list[dict[str, Any]]:
    """Return a figure in which each job is a line through its values of the swept keys and of some metrics.

    The list is empty if there are fewer than two jobs or keys to compare.
    """
    keys = drawn_keys(ranking)
    jobs = [job for job in ranking.jobs if ranking.values([job]) and all(key in job.overrides for key in keys)]
    if len(keys) < 2 or len(jobs) < 2:
        return []
    names = [name for name in ranking.columns if len(ranking.values(jobs, name)) == len(jobs)]
    dimensions = [
        key_dimension(head, [job.overrides[key] for job in jobs]) for head, key in zip(short(keys), keys, strict=True)
    ]
    for name in names:
        values = ranking.values(jobs, name)
        dimensions.append({"label": label(name, ranking), "values": values, "tickformat": ".4~g"})
    places = [i / (len(jobs) - 1) for i in range(len(jobs))]
    data = [{"type": "parcoords", "dimensions": dimensions, "line": {"color": places, "cmin": 0, "cmax": 1}}]
    caption = f"Each line is a job; the stronger its color, the better its {label(ranking.monitor or '')}"
    return [{"caption": caption, "data": data, "layout": {}, "wide": True}]


def key_dimension(title: str, values: Sequence[str]) -> dict[str, Any]:
    """Return a key's dimension of parallel coordinates, which have no logarithmic axes of their own."""
    scale = axis(values)
    at = math.log10 if scale.log else float
    dimension: dict[str, Any] = {"label": plotly_text(title), "values": [at(scale.positions[v]) for v in values]}
    if scale.ticks:  # in which plotly knows no tags
        dimension |= {"tickvals": [*map(at, scale.ticks)], "ticktext": [*map(cut, scale.ticks.values())]}
    return dimension


def spec_of(figure: Any) -> dict[str, Any]:
    """Return a figure of plotly's with its title as the caption, to be drawn in the page's colors."""
    content = json.loads(figure.to_json())
    layout = content.get("layout", {})
    title = (layout.pop("title", None) or {}).get("text") or ""
    return {"caption": title, "data": content["data"], "layout": layout, "wide": True}


def figure_frame(spec: Mapping[str, Any]) -> str:
    """Return the place of a figure, with its caption."""
    caption = escape(spec["caption"])
    kind = "wide" if spec["wide"] else ""
    plot = f'<div class=plot role=img aria-label="{caption}"></div>'
    return f'<figure class="{kind}">{plot}<figcaption>{caption}</figcaption></figure>\n'


def samples_section(ranking: Ranking) -> str:
    """Return the jobs' samples side by side, best first."""
    frames = []
    for job in ranking.jobs:
        if data := thumbnail(job.folder / "samples.png"):
            value = "".join(f"{label(ranking.monitor or '')} {number:.4g}" for number in ranking.values([job]))
            what = escape(", ".join(described(ranking, job)))
            image = f'<img src="data:image/jpeg;base64,{data}" alt="Samples of {what}" loading=lazy>'
            frames.append(f"<figure>{image}<figcaption>{what}<br>{escape(value)}</figcaption></figure>\n")
    return section("Samples, best first", "".join(frames), "samples") if frames else ""


def thumbnail(path: Path) -> str:
    """Return an image as a JPEG of at most 300 pixels in width, in base64; empty if there is none or it is damaged."""
    try:
        with Image.open(path) as image:
            image.thumbnail((SAMPLES_WIDTH, 4 * SAMPLES_WIDTH))
            buffer = BytesIO()
            image.convert("L" if image.mode in ("1", "L") else "RGB").save(buffer, "JPEG", quality=75)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    return base64.b64encode(buffer.getvalue()).decode()


def unfinished_section(ranking: Ranking) -> str:
    """Return a list of the jobs that did not finish, with the reasons."""
    jobs = [job for job in ranking.jobs if job.status != "finished"]
    items = []
    for job in jobs:
        what, reason = (escape(text) for text in (", ".join(described(ranking, job)), job.reason or ""))
        items.append(f"<dt>{escape(job.name)} <span>{escape(job.status)}</span></dt><dd>{what}<p>{reason}</p></dd>")
    return section("Not finished", f"<dl>{''.join(items)}</dl>", "unfinished") if jobs else ""

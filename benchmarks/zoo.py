"""Experiments side by side: ``make zoo``.

Trains each of ``EXPERIMENTS``, one after the other, and writes docs/zoo.md and docs/zoo.png after each run. Stopped, it
continues where it was: finished runs in outputs/zoo are kept, and a run that was stopped is resumed.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from benchmarks.machine import processor
from gan_lightning.run.config_docs import summary
from gan_lightning.run.config_files import CHECKOUT, CONF

Runs = Mapping[str, Sequence[Path]]  # folders of finished runs, one per seed, by experiment
EXPERIMENTS = {  # in the order of the tables -> number of seeds
    "article": 1,
    "article_non_saturating": 1,
    "article_r1": 1,
    "article_ema": 1,
    "default": 3,
    "dcgan": 3,
    "resnet": 3,
    "conditional": 3,
    "wgan": 1,
    "wgan_gp": 1,
    "least_squares": 1,
    "hinge": 1,
    "relativistic_average": 1,
    "dragan": 1,
    "ring": 3,
    "grid": 3,
    "stacked_mnist": 1,
}
COLUMNS = {  # metric -> heading and digits after the point
    "fid": ("FID ↓", 3),
    "precision": ("precision ↑", 3),
    "recall": ("recall ↑", 3),
    "coverage": ("coverage ↑", 3),
    "label_agreement": ("agreement with the label ↑", 3),
    "modes": ("modes ↑", 0),
    "good_samples": ("good samples ↑", 3),
    "mode_kl": ("KL of modes ↓", 3),
}


def train(experiment: str, seed: int, folder: Path, overrides: Sequence[str]) -> None:
    """Run one seed of an experiment in a folder, from its last checkpoint if there is one; not if it has finished."""
    if (folder / "metrics.json").exists():
        return
    resumed = (folder / "checkpoints" / "last.ckpt").exists()
    typed = [f"checkpoint={folder}"] if resumed else [f"experiment={experiment}", f"seed={seed}", *overrides]
    command = [sys.executable, "-m", "gan_lightning.train", *typed, f"hydra.run.dir={folder}"]
    print(f"{experiment}, seed {seed}{' (resumed)' if resumed else ''}", flush=True)
    subprocess.run(command, check=True, cwd=CHECKOUT)
    threads = torch.get_num_threads()
    (folder / "machine.txt").write_text(f"{processor()} with {threads} thread{'s' * (threads > 1)}\n")


def description(experiment: str) -> str:
    """Return what an experiment shows: the first paragraph of its file's comment."""
    return summary(CONF / "experiment" / f"{experiment}.yaml")


def spread(values: Sequence[float], digits: int) -> str:
    """Return the mean of values, with their standard deviation if there are several."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def table(runs: Runs, metrics: Sequence[str]) -> list[str]:
    """Return the lines of a Markdown table of experiments, with the given metrics."""
    headings = ["experiment", *(COLUMNS[name][0] for name in metrics), "million images", "minutes", "seeds"]
    lines = [f"| {' | '.join(headings)} |", "|" + " --- |" * len(headings)]
    for experiment, folders in runs.items():
        measured = [json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in folders]
        cells = [f"[`{experiment}`](../conf/experiment/{experiment}.yaml)"]
        for name in metrics:
            values = [run[name] for run in measured if name in run]
            cells.append(spread(values, COLUMNS[name][1]) if values else "")
        cells += [f"{measured[0]['images_seen'] / 1e6:.2f}", spread([run["train_seconds"] / 60 for run in measured], 1)]
        lines.append(f"| {' | '.join([*cells, str(len(folders))])} |")
    return lines


def document(runs: Runs) -> str:
    """Return the page: a line on each experiment, and the tables."""
    files = [folder / "machine.txt" for folders in runs.values() for folder in folders]
    machines = sorted({path.read_text(encoding="utf-8").strip() for path in files if path.exists()})
    images = {
        name: runs[name] for name in runs if "parzen_ll" in (runs[name][0] / "metrics.json").read_text(encoding="utf-8")
    }
    modes = {name: folders for name, folders in runs.items() if name not in images}
    missing = [name for name in EXPERIMENTS if name not in runs]
    lines = [
        "# Zoo",
        "",
        "Every experiment is one file and one command, `python -m gan_lightning.train experiment=NAME`. `make zoo`",
        "runs these and writes this page; [results.md](results.md) has `long` and `goodfellow2014`. Values are means",
        "over seeds ± standard deviation, on the test set.",
        f"Minutes are training with validation on {', '.join(machines) or 'an unknown machine'}.",
        *([f"Not run with this version: {', '.join(missing)}."] if missing else []),
        "",
        "![Samples of each experiment](zoo.png)",
        "",
        *(f"- `{name}`: {description(name)}" for name in runs),
    ]
    for title, some, metrics in (
        ("MNIST", images, ("fid", "precision", "recall", "coverage", "label_agreement")),
        ("Points, and Stacked MNIST", modes, ("modes", "good_samples", "mode_kl")),
    ):
        if some:
            lines += ["", f"## {title}", "", *table(some, metrics)]
    return "\n".join(lines) + "\n"


def picture(runs: Runs, path: Path, columns: int = 4) -> None:
    """Write the samples of each experiment's first seed as one picture."""
    rows = -(-len(runs) // columns)
    figure = Figure(figsize=(3 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for ax in axes:
        ax.axis("off")
    for ax, (experiment, folders) in zip(axes, runs.items(), strict=False):
        ax.imshow(imread(folders[0] / "samples.png"), cmap="gray")
        ax.set_title(experiment, fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run all experiments, and write the page after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=CHECKOUT / "outputs" / "zoo", help="folder of the runs")
    parser.add_argument("--docs", type=Path, default=CHECKOUT / "docs", help="folder of the page")
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, help="experiments, in place of all")
    parser.add_argument("--seeds", type=int, help="seeds of each, in place of its own number")
    parser.add_argument("overrides", nargs="*", help="as for gan_lightning.train")
    arguments = parser.parse_args()
    for experiment in arguments.only or EXPERIMENTS:
        for seed in range(arguments.seeds or EXPERIMENTS[experiment]):
            train(experiment, seed, arguments.out / experiment / str(seed), arguments.overrides)
            runs = {
                name: sorted(path.parent for path in (arguments.out / name).glob("*/metrics.json"))
                for name in EXPERIMENTS
                if any((arguments.out / name).glob("*/metrics.json"))
            }
            picture(runs, arguments.docs / "zoo.png")
            (arguments.docs / "zoo.md").write_text(document(runs))
    print(arguments.docs / "zoo.md")


if __name__ == "__main__":
    main()

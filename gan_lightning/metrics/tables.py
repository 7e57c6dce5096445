"""Metrics as tables, for people: one run next to reference results."""

from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from textwrap import fill

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

"""Metrics as tables."""

import pytest

from gan_lightning.metrics.tables import LABELS, WIDTH, result_cell, results_table

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

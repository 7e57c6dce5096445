"""How long until the paper's 225 nats: ``make speedrun``.

Five seeds of ``experiment=speedrun``, one after the other, from launch to the first evaluation on validation images
that has a Parzen-window log-likelihood of 225 nats, precision 0.8 and recall 0.3. Writes speedrun.md and .json into
``outputs/speedrun``.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.machine import processor

TARGET = {"parzen_ll": 225, "precision": 0.8, "recall": 0.3}


def run(folder: Path, overrides: list[str]) -> dict[str, float]:
    """Train; return the first evaluation that passes, or else the last, and its time in seconds from launch."""
    since = time.time()
    typed = ["experiment=speedrun", f"hydra.run.dir={folder}", *overrides]
    subprocess.run([sys.executable, "-m", "gan_lightning.train", *typed], check=True, stdout=subprocess.DEVNULL)
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    columns = [events.Scalars(f"metrics/{name}") for name in TARGET]
    for row in zip(*columns, strict=True):
        found = {name: event.value for name, event in zip(TARGET, row, strict=True)}
        passes = all(found[name] >= least for name, least in TARGET.items())
        if passes or row[0].step == columns[0][-1].step:
            after = columns[-1][-1].wall_time - row[-1].wall_time
            training = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["train_seconds"] - after
            return found | {
                "steps": row[0].step,
                "launch": row[-1].wall_time - since,
                "train": training,
                "passes": passes,
            }
    raise AssertionError("no evaluation")


def main() -> None:
    """Run all seeds, print each row, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("outputs/speedrun"))
    parser.add_argument("overrides", nargs="*", help="as for gan_lightning.train")
    arguments = parser.parse_args()
    lines = [
        f"{processor()}; overrides: {' '.join(arguments.overrides) or 'none'}\n",
        "| seed | passes | seconds from launch | of training | steps | Parzen LL | precision | recall |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    print("\n".join(lines), flush=True)
    rows = []
    for seed in range(arguments.seeds):
        folder = arguments.out / time.strftime("%Y-%m-%d_%H-%M-%S")
        row = run(folder, [f"seed={seed}", *arguments.overrides])
        rows.append(row)
        metrics = f"{row['parzen_ll']:.1f} | {row['precision']:.3f} | {row['recall']:.3f}"
        passes = "yes" if row["passes"] else "no"
        lines.append(f"| {seed} | {passes} | {row['launch']:.0f} | {row['train']:.0f} | {row['steps']} | {metrics} |")
        print(lines[-1], flush=True)
    for name in ("launch", "train"):
        values = [row[name] for row in rows]
        spread = statistics.stdev(values) if len(values) > 1 else 0
        lines.append(f"\n{name}: {statistics.mean(values):.1f} ± {spread:.1f} s")
        print(lines[-1])
    (arguments.out / "speedrun.md").write_text("\n".join(lines) + "\n")
    (arguments.out / "speedrun.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Where the time goes: ``make bench``. Writes bench.md, bench.json and bench.png into ``outputs/bench``.

What is compared takes turns within one process, so that the ratios hold when the machine's speed drifts. A ratio is
the median of the rounds' own ratios.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import loops
from benchmarks.machine import DEVICE, processor, seconds
from gan_lightning import config
from gan_lightning.data.images import normalise
from gan_lightning.metrics.parzen import ParzenWindow
from gan_lightning.overhead import has_compiler, keep_freed_memory, look_for_gpus_once, skip_empty_hooks
from gan_lightning.sampling import draw, show
from gan_lightning.scoring import BATCH, normalised, score
from gan_lightning.train import quiet

Contest = Mapping[str, Callable[[], float]]
Round = Callable[[], Mapping[str, float]]
Row = dict[str, str | float]


def hold(
    title: str, contest: Contest | Round, *, base: str, rounds: int, unit: str = "images/s", reach: bool = False
) -> list[Row]:
    """Let contestants take turns; give each one's median, spread, and ratio to ``base``.

    Args:
        title: The first column.
        contest: What each measures, by name; or all measured at once.
        base: Whom the ratios refer to.
        rounds: How often all is measured.
        unit: Of what is measured.
        reach: Ratios tell how much of each one ``base`` reaches.
    """
    found_by_round = [
        contest() if callable(contest) else {name: measure() for name, measure in contest.items()}
        for _ in range(rounds)
    ]
    rows: list[Row] = []
    for name in found_by_round[0]:
        found = [values[name] for values in found_by_round]
        ratios = [(values[name] / values[base]) ** (-1 if reach else 1) for values in found_by_round]
        rows.append(
            {
                "what": title,
                "who": name,
                "unit": unit,
                "median": statistics.median(found),
                "min": min(found),
                "max": max(found),
                "ratio": statistics.median(ratios),
                "ratio_min": min(ratios),
                "ratio_max": max(ratios),
                "to": f"reached by {base}" if reach else f"of {base}",
            }
        )
        print(markdown(rows[-1]), flush=True)
    return rows


def markdown(row: Row) -> str:
    """Write a row of the table."""
    numbers = (f"{row[key]:,.4g}" if float(row[key]) < 1000 else f"{row[key]:,.0f}" for key in ("median", "min", "max"))
    ratio = f"{row['ratio']:.3g} ({row['ratio_min']:.3g} to {row['ratio_max']:.3g}) {row['to']}"
    return f"| {row['what']} | {row['who']} | {' | '.join(numbers)} | {row['unit']} | {ratio} |"


def training(steps: int, batch_size: int, precision: str, *typed: str) -> Round:
    """Pit the package against a loop by hand, the limit and, at batch 64, a textbook's script, in turns."""
    others = {
        "loop by hand": loops.by_hand(batch_size, precision),
        "matrix products alone": loops.limit(batch_size, precision),
        **({"textbook script, fp32": loops.textbook(batch_size)} if batch_size == 64 else {}),
    }

    def play() -> Mapping[str, float]:
        turns = loops.Turns(others)
        options = (f"data.batch_size={batch_size}", f"trainer.precision={precision}", *typed)
        rate = loops.by_trainer(steps, *options, turns=turns)
        return {"Trainer.fit": rate} | turns.rates(batch_size)

    return play


def races(steps: int, bf16: bool) -> dict[str, Round]:
    """Give the contests of training by their titles."""
    each_alone = "callbacks.sample_grid.every_n_steps=781"  # has no divisor in common with the other intervals
    return {
        "batch 64, 32-true": training(steps, 64, "32-true"),
        "batch 64, each step a batch": training(steps, 64, "32-true", each_alone),
        **({"batch 64, bf16-mixed": training(steps, 64, "bf16-mixed")} if bf16 else {}),
        "batch 256, 32-true": training(steps, 256, "32-true"),
    }


def parts_of_the_step(steps: int, bf16: bool) -> Round:
    """Pit the loop by hand against itself with one thing changed, in turns."""
    hand = partial(loops.by_hand, 64)
    runs = {
        "all": hand(),
        "Adam not fused": hand(fused=False),
        "Adam's tensors gathered once": hand(gathered=True),
        "torch's linear layers": hand(halved=False),
        "two passes through G": hand(shared=False),
        "D sees real and fake in turn": hand(joint=False),
        "gradients of D's weights in G's half": hand(frozen=False),
        **({"compiled": hand(compiled=True)} if has_compiler() else {}),
        **({"bf16": hand(precision="bf16-mixed")} if bf16 else {}),
        **({"one CUDA graph": hand(captured=True)} if DEVICE.type == "cuda" else {}),
    }

    def play() -> Mapping[str, float]:
        turns = loops.Turns(runs)
        for _ in range(steps // turns.every_n_steps):
            turns.take()
        return turns.rates(64)

    return play


def on_gpu(steps: int, batch_size: int) -> Contest:
    """Pit what a GPU offers against the run as it is."""
    typed = (f"data.batch_size={batch_size}", "callbacks.scoring=null", "callbacks.paper_figures=null")
    choices = ("matmul_precision=high", "trainer.precision=bf16-mixed", "compile=true", "cuda_graphs=true")
    return {
        "Trainer.fit": partial(loops.by_trainer, steps, *typed),
        **{choice: partial(loops.by_trainer, steps, *typed, choice) for choice in (*choices, "data.device=cpu")},
    }


def data_path(batches: int) -> Contest:
    """Pit the data module against torchvision's usual way, both up to floats in [-1, 1]."""
    _, data = loops.build()
    ours, theirs = data.train_dataloader(), loops.textbook_batches(64)

    def rate(loader: object, finish: Callable[[Tensor, Tensor], object], n: int) -> float:
        iterator = iter(loader)  # type: ignore[call-overload]
        next(iterator)
        return n * 64 / seconds(lambda: [finish(*next(iterator)) for _ in range(n)])

    return {
        "torchvision, PIL, DataLoader": lambda: rate(theirs, lambda images, labels: None, batches // 10),
        "ImageDataModule": lambda: rate(ours, lambda *batch: data.on_after_batch_transfer(batch, 0), batches),
    }


def sampling() -> Contest:
    """Pit drawing 10,000 images against the generator's matrix products."""
    gan, _ = loops.build()
    gan.eval()
    forward = [layer[0] for layer in loops.products(gan.generator, 1000)]

    def products() -> None:
        for _ in range(10):
            for a, b in forward:
                torch.mm(a, b)

    def as_it_is() -> None:
        for _ in range(10):
            show(gan, gan.latent(1000, device=DEVICE))

    return {
        "draw": lambda: 10_000 / seconds(lambda: [None for _ in draw(gan, 10_000, seed=0)]),
        "the network as it is": lambda: 10_000 / seconds(as_it_is),
        "matrix products alone": lambda: 10_000 / seconds(products),
    }


def parzen() -> Contest:
    """Pit the log-likelihood of 10,000 images under 10,000 windows against its matrix product."""
    _, data = loops.build()
    centres, real = (normalise(next(split.parts(10_000)).to(DEVICE)) for split in (data.train, data.test))
    window = ParzenWindow(num_validation=1).to(DEVICE)
    window.update(centres, real=False)
    window.update(real, real=True)
    window.sigma = 0.1668
    a, b = real.flatten(1), centres.flatten(1).T

    def evaluate() -> None:
        window._computed = None  # torchmetrics keeps what it computed
        window.compute()

    return {
        "ParzenWindow": lambda: 10_000 / seconds(evaluate),
        "matrix product alone": lambda: 10_000 / seconds(lambda: [torch.mm(x, b) for x in a.split(500)]),
    }


def evaluation() -> Contest:
    """Time each figure of 10,000 images against the test set, and all of them together."""
    gan, data = loops.build()
    fakes = list(draw(gan, 10_000, seed=0))
    reals = list(normalised(data.test.parts(BATCH), gan.device))
    found = config.make_metrics(config.compose("train"))

    def measure(*names: str) -> float:
        work = partial(
            score,
            {name: found[name] for name in names},
            fake=(images.clone() for images in fakes),  # no features are kept from the last time
            real=(images.clone() for images in reals),
            validation=lambda n: normalise(data.val.images[:n]),
            train=lambda: normalised(data.train.parts(BATCH), gan.device),
            device=gan.device,
        )
        keep_freed_memory(False)  # as at a run's end
        spent = seconds(work)
        keep_freed_memory()
        return spent

    return {"all": partial(measure, *found)} | {name: partial(measure, name) for name in found}


FIRST_STEP = """
import os
from pytorch_lightning import Callback
class FirstStep(Callback):
    def on_train_batch_end(self, *_):
        os._exit(0)
"""
TRAIN = "import runpy, sys; sys.argv[1:] = {}; runpy.run_module('gan_lightning.train', run_name='__main__')"
BARE = "import os, torch, pytorch_lightning; os._exit(0)"
LOADED = """
import torch, pytorch_lightning
from benchmarks.loops import build
gan, data = build()
"""


def child(code: str, folder: Path) -> str:
    """Run Python code in a process of its own; give what it prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(folder)])}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def peak(code: str, folder: Path) -> float:
    """Give the peak memory of a process of its own, in MiB; its ``ru_maxrss`` would begin with this process's."""
    told = child(f"{code}\nprint(open('/proc/self/status').read())", folder)
    return int(re.findall(r"VmHWM:\s+(\d+) kB", told)[0]) / 1024


def processes(folder: Path) -> tuple[Contest, Contest]:
    """Pit a run's start and its memory against bare imports."""
    (folder / "first_step.py").write_text(FIRST_STEP)
    run = f"hydra.run.dir={folder}/run/${{now:%H-%M-%S-%f}}"
    to_first_step = TRAIN.format([run, "+callbacks.first._target_=first_step.FirstStep"])
    whole = TRAIN.format([run, "trainer.max_steps=400", "trainer.val_check_interval=200"])
    return (
        {
            "bare import of torch and pytorch_lightning": lambda: seconds(partial(child, BARE, folder)),
            "launch to first step": lambda: seconds(partial(child, to_first_step, folder)),
        },
        {
            "bare import, data set, networks": lambda: peak(LOADED, folder),
            "default run": lambda: peak(whole, folder),
        },
    )


def ranks(steps: int, devices: int, folder: Path, *typed: str) -> float:
    """Give images a second of all ranks, each a process on the CPU with its share of the threads."""
    run = folder / f"ranks-{devices}"
    command = [
        *("experiment=article", "trainer.accelerator=cpu", f"trainer.devices={devices}", f"hydra.run.dir={run}"),
        *(f"trainer.max_steps={steps}", f"trainer.val_check_interval={steps}", "num_images=200"),
        *(f"metrics.{name}=null" for name in config.compose("train").metrics),
        *typed,
    ]
    subprocess.run([sys.executable, "-m", "gan_lightning.train", *command], check=True, stdout=subprocess.DEVNULL)
    return float(json.loads((run / "metrics.json").read_text())["images_per_second"])


def scaling(steps: int, rounds: int, folder: Path) -> dict[str, dict[str, float]]:
    """Give the median rates, images/s, of ``Trainer.fit`` without figures, as one thing at a time changes."""
    plain = ["callbacks.scoring=null", "callbacks.paper_figures=null"]
    plain += ["trainer.limit_val_batches=1", "monitor=validation/accuracy"]
    changes: dict[str, dict[float, list[str]]] = {
        "batch size": {n: [f"data.batch_size={n}"] for n in (16, 32, 64, 128, 256, 512)},
        "k": {n: [f"k={n}"] for n in (1, 2, 4)},
        "width, relative": {
            w: [
                f"model.generator.widths=[{','.join(str(int(w * n)) for n in (128, 256, 512, 1024))}]",
                f"model.discriminator.widths=[{','.join(str(int(w * n)) for n in (512, 256))}]",
            ]
            for w in (0.5, 1, 2)
        },
        "training images": {n: [f"data.val_size={60_000 - n}"] for n in (5_000, 20_000, 50_000)},
    }
    found = [
        {
            what: {str(n): loops.by_trainer(steps, *typed, *plain) for n, typed in values.items()}
            for what, values in changes.items()
        }
        | {"ranks on the CPU, 64 images each": {str(n): ranks(steps, n, folder / str(i), *plain) for n in (1, 2)}}
        for i in range(rounds)
    ]
    return {
        what: {n: statistics.median(one[what][n] for one in found) for n in values} for what, values in found[0].items()
    }


def draw_chart(rows: list[Row], curves: dict[str, dict[str, float]], out: Path) -> None:
    """Draw the contests as bars, and how the rate changes."""
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(2, 3, figsize=(12, 6), layout="constrained")
    axes = grid.flat
    step = [row for row in rows if row["what"] == "batch 64, 32-true"]
    axes[0].barh([str(row["who"]) for row in step], [float(row["median"]) for row in step])
    axes[0].invert_yaxis()
    axes[0].set_xlabel("images/s, batch 64")
    for axis, (what, values) in zip(axes[1:], curves.items(), strict=True):
        axis.plot(list(values), list(values.values()), "o-")
        axis.set_ylim(0, 1.1 * max(values.values()))
        axis.set_xlabel(what)
        axis.set_ylabel("images/s")
    figure.savefig(out, dpi=100)


def at_least_four_turns(text: str) -> int:
    """Read a number of steps."""
    if int(text) < 200:
        raise argparse.ArgumentTypeError(f"{text}: allowed: at least 200")
    return int(text)


def main() -> None:
    """Measure all, print as it comes, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=at_least_four_turns, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="one of the races of training, such as 'batch 64, 32-true'; writes no files")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"))
    arguments = parser.parse_args()
    steps, rounds, out = arguments.steps, arguments.rounds, arguments.out
    torch.set_num_threads(torch.get_num_threads())  # and no other number from here on
    quiet()
    keep_freed_memory()
    look_for_gpus_once()
    skip_empty_hooks()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    head = f"{processor()}, {torch.get_num_threads()} threads, {versions}, {rounds} rounds of {steps} steps"
    head += "\n\n| what | | median | min | max | unit | ratio |\n| --- | --- | --- | --- | --- | --- | --- |"
    print(head)
    rows: list[Row] = []
    bf16 = DEVICE.type == "cuda" or config.multiplies_in_bf16()
    contests = races(steps, bf16)
    if arguments.only:
        if arguments.only not in contests:
            parser.error(f"--only={arguments.only}: allowed: {', '.join(contests)}")
        contests = {arguments.only: contests[arguments.only]}
    for title, race in contests.items():
        rows += hold(title, race, base="Trainer.fit", rounds=rounds, reach=True)
    if arguments.only:
        return
    out.mkdir(parents=True, exist_ok=True)
    precisions: Contest = {
        p: partial(loops.by_trainer, steps // 4, "data.batch_size=256", f"trainer.precision={p}")
        for p in ("32-true", "bf16-mixed")
    }
    if DEVICE.type == "cuda":
        rows += hold("batch 64, GPU", on_gpu(steps, 64), base="Trainer.fit", rounds=rounds)
        rows += hold("batch 1024, GPU", on_gpu(steps // 4, 1024), base="Trainer.fit", rounds=rounds)
    if bf16:
        rows += hold("batch 256, precision", precisions, base="32-true", rounds=rounds)
    parts = parts_of_the_step(steps // 4, bf16)
    rows += hold("loop by hand, one thing changed", parts, base="all", rounds=rounds)
    rows += hold("data path", data_path(700), base="torchvision, PIL, DataLoader", rounds=rounds)
    rows += hold("sampling", sampling(), base="matrix products alone", rounds=rounds)
    rows += hold("Parzen window", parzen(), base="matrix product alone", rounds=rounds)
    rows += hold("evaluation, 10,000 images", evaluation(), base="all", rounds=rounds, unit="s")
    with tempfile.TemporaryDirectory() as runs:
        start, memory = processes(Path(runs))
        rows += hold("start-up", start, base=next(iter(start)), rounds=rounds, unit="s")
        if sys.platform == "linux":
            rows += hold("peak memory", memory, base=next(iter(memory)), rounds=rounds, unit="MiB")
        curves = scaling(steps // 8, rounds, Path(runs))
    machine = head.partition("\n")[0]
    (out / "bench.json").write_text(json.dumps({"machine": machine, "rows": rows, "curves": curves}, indent=2) + "\n")
    (out / "bench.md").write_text("\n".join([head, *map(markdown, rows)]) + "\n")
    draw_chart(rows, curves, out / "bench.png")
    print(f"\n{out}/bench.md, bench.json, bench.png")


if __name__ == "__main__":
    main()

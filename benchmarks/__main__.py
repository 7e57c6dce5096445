"""Benchmarks: ``make bench``. Writes bench.md and bench.json into ``outputs/bench``.

What is compared runs in turns, so that ratios hold when the machine's speed drifts. A ratio is the median of the ratios
in each round.
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

from benchmarks import loops, scaling
from benchmarks.machine import DEVICE, processor, seconds
from benchmarks.streaming import listing, streaming, write_photos, write_shards
from gan_lightning.data.images import normalize
from gan_lightning.metrics.evaluation import compute_metrics, normalized_batches
from gan_lightning.metrics.parzen import ParzenWindow
from gan_lightning.perf.compile import has_compiler
from gan_lightning.perf.malloc import keep_freed_memory, return_freed_memory
from gan_lightning.run import build, config
from gan_lightning.run.fill_in import fill_in
from gan_lightning.sampling import sample

Measurements = Mapping[str, Callable[[], float]]
MeasureAll = Callable[[], Mapping[str, float]]
Row = dict[str, str | float]


def compare(
    title: str,
    variants: Measurements | MeasureAll,
    *,
    base: str,
    rounds: int,
    unit: str = "images/s",
    invert: bool = False,
) -> list[Row]:
    """Measure variants in turns; return the median, the spread and the ratio to ``base`` of each.

    Args:
        title: First column of the table.
        variants: Functions that measure, by the variant's name, or one that measures all of them.
        base: The variant that ratios refer to.
        rounds: Number of turns.
        unit: Unit of what is measured.
        invert: Whether a ratio is the share of a variant's value that ``base`` reaches, and not the inverse.
    """
    found_by_round = [
        variants() if callable(variants) else {name: measure() for name, measure in variants.items()}
        for _ in range(rounds)
    ]
    rows: list[Row] = []
    for name in found_by_round[0]:
        found = [values[name] for values in found_by_round]
        ratios = [(values[name] / values[base]) ** (-1 if invert else 1) for values in found_by_round]
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
                "to": f"reached by {base}" if invert else f"of {base}",
            }
        )
        print(markdown(rows[-1]), flush=True)
    return rows


def markdown(row: Row) -> str:
    """Return a row of the table in Markdown."""
    numbers = (f"{row[key]:,.4g}" if float(row[key]) < 1000 else f"{row[key]:,.0f}" for key in ("median", "min", "max"))
    ratio = f"{row['ratio']:.3g} ({row['ratio_min']:.3g} to {row['ratio_max']:.3g}) {row['to']}"
    return f"| {row['what']} | {row['who']} | {' | '.join(numbers)} | {row['unit']} | {ratio} |"


def training(steps: int, batch_size: int, precision: str, *typed: str) -> MeasureAll:
    """Return a function that measures training by the package, by hand and by a textbook script, in turns."""
    others = {
        "hand-written loop": loops.by_hand(batch_size, precision),
        "matrix products only": loops.limit(batch_size, precision),
        **({"textbook script, fp32": loops.textbook(batch_size)} if batch_size == 64 else {}),
    }

    def measure() -> Mapping[str, float]:
        turns = loops.Turns(others)
        options = (f"data.batch_size={batch_size}", f"trainer.precision={precision}", *typed)
        rate = loops.by_trainer(steps, *options, turns=turns)
        return {"Trainer.fit": rate} | turns.rates(batch_size)

    return measure


def convolutions(steps: int, model: str, precision: str) -> MeasureAll:
    """Return a function that measures training of convolutional networks by the package and by hand, in turns."""
    hand = partial(loops.by_hand, 64, precision, model=model)
    others = {
        "hand-written loop": hand(),
        "D sees real and fake in turn": hand(joint=False),
        "without channels_last": hand(channels_last=False),
    }

    def measure() -> Mapping[str, float]:
        turns = loops.Turns(others, every_n_steps=10)
        rate = loops.by_trainer(steps, f"model={model}", f"trainer.precision={precision}", turns=turns)
        return {"Trainer.fit": rate} | turns.rates(64)

    return measure


def training_comparisons(steps: int, bf16: bool) -> dict[str, MeasureAll]:
    """Return the comparisons of training by their titles."""
    kinds = ("32-true", "bf16-mixed") if bf16 else ("32-true",)
    return {
        "batch 64, 32-true": training(steps, 64, "32-true"),
        **({"batch 64, bf16-mixed": training(steps, 64, "bf16-mixed")} if bf16 else {}),
        "batch 256, 32-true": training(steps, 256, "32-true"),
        **{
            f"{model}, batch 64, {p}": convolutions(steps // 5, model, p)
            for model in ("dcgan", "resnet")
            for p in kinds
        },
    }


def parts_of_the_step(steps: int, bf16: bool) -> MeasureAll:
    """Return a function that measures the hand-written loop with one thing changed at a time, in turns."""
    hand = partial(loops.by_hand, 64)
    runs = {
        "all": hand(),
        "Adam not fused": hand(fused=False),
        "torch's linear layers": hand(split=False),
        "two passes through G": hand(shared=False),
        "D sees real and fake in turn": hand(joint=False),
        "gradients of D's weights in G's half": hand(frozen=False),
        **({"compiled": hand(compiled=True)} if has_compiler() else {}),
        **({"bf16": hand(precision="bf16-mixed")} if bf16 else {}),
        **({"one CUDA graph": hand(captured=True)} if DEVICE.type == "cuda" else {}),
    }

    def measure() -> Mapping[str, float]:
        turns = loops.Turns(runs)
        for _ in range(steps // turns.every_n_steps):
            turns.take()
        return turns.rates(64)

    return measure


def on_gpu(steps: int, batch_size: int) -> Measurements:
    """Return functions that measure a run with each of the options for GPUs."""
    typed = (f"data.batch_size={batch_size}", "callbacks.validation_metrics=null", "callbacks.paper_figures=null")
    choices = ("matmul_precision=high", "trainer.precision=bf16-mixed", "compile=true", "cuda_graphs=true")
    return {
        "Trainer.fit": partial(loops.by_trainer, steps, *typed),
        **{choice: partial(loops.by_trainer, steps, *typed, choice) for choice in (*choices, "data.device=cpu")},
    }


def data_path(batches: int) -> Measurements:
    """Return functions that measure the data module and torchvision's usual way, both up to floats in [-1, 1]."""
    _, data = loops.article()
    ours, theirs = data.train_dataloader(), loops.textbook_batches(64)

    def rate(loader: object, finish: Callable[[Tensor, Tensor], object], n: int) -> float:
        iterator = iter(loader)  # type: ignore[call-overload]
        next(iterator)
        return n * 64 / seconds(lambda: [finish(*next(iterator)) for _ in range(n)])

    return {
        "torchvision, PIL, DataLoader": lambda: rate(theirs, lambda images, labels: None, batches // 10),
        "ImageDataModule": lambda: rate(ours, lambda *batch: data.on_after_batch_transfer(batch, 0), batches),
    }


def sampling() -> Measurements:
    """Return functions that measure sampling 10,000 images, and the generator's matrix products."""
    gan, _ = loops.article()
    gan.eval()
    forward = [layer[0] for layer in loops.products(gan.generator, 1000)]

    def products() -> None:
        for _ in range(10):
            for a, b in forward:
                torch.mm(a, b)

    return {
        "sample": lambda: 10_000 / seconds(lambda: [None for _ in sample(gan, 10_000, seed=0)]),
        "matrix products only": lambda: 10_000 / seconds(products),
    }


def parzen() -> Measurements:
    """Return functions that measure the log-likelihood of 10,000 images, and its matrix product."""
    _, data = loops.article()
    centers, real = (normalize(next(split.batches(10_000)).to(DEVICE)) for split in (data.train, data.test))
    window = ParzenWindow(num_validation=1).to(DEVICE)
    window.update(centers, real=False)
    window.update(real, real=True)
    window.sigma = 0.1668
    a, b = real.flatten(1), centers.flatten(1).T

    def evaluate() -> None:
        window._computed = None  # torchmetrics keeps what it computed
        window.compute()

    return {
        "ParzenWindow": lambda: 10_000 / seconds(evaluate),
        "matrix product only": lambda: 10_000 / seconds(lambda: [torch.mm(x, b) for x in a.split(500)]),
    }


def evaluation() -> Measurements:
    """Return functions that measure the seconds of each metric of 10,000 images, and of all metrics."""
    gan, data = loops.article()
    fakes = list(sample(gan, 10_000, seed=0))
    reals = list(normalized_batches(data.test, gan.device))
    found = build.metrics(fill_in(config.compose("train")))

    def measure(*names: str) -> float:
        work = partial(
            compute_metrics,
            {name: found[name] for name in names},
            fake=(images.clone() for images in fakes),  # no features are kept from the last time
            real={"test": (images.clone() for images in reals)},
            validation=lambda n: normalized_batches(data.val.first(n), gan.device),
            train=lambda: normalized_batches(data.train, gan.device),
            device=gan.device,
        )
        return_freed_memory()  # as at a run's end
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
from benchmarks.loops import article
gan, data = article()
"""


def child(code: str, folder: Path) -> str:
    """Return what Python code prints in a process of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(folder)])}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def peak(code: str, folder: Path) -> float:
    """Return the peak memory of a process of its own, in MiB; its ``ru_maxrss`` would begin with this process's."""
    output = child(f"{code}\nprint(open('/proc/self/status').read())", folder)
    return int(re.findall(r"VmHWM:\s+(\d+) kB", output)[0]) / 1024


def processes(folder: Path) -> tuple[Measurements, Measurements]:
    """Return functions that measure a run's start-up time and memory, and those of bare imports."""
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


def short_run(steps: int = 300) -> list[str]:
    """Return the overrides of a run of the default recipe that measures nothing but the training."""
    return [
        f"trainer.max_steps={steps}",
        f"trainer.val_check_interval={steps}",
        "num_images=200",
        "trainer.precision=32-true",
        "callbacks.validation_metrics=null",
        "callbacks.paper_figures=null",
        "trainer.limit_val_batches=1",
        *(f"metrics.{name}=null" for name in config.compose("train").metrics),
    ]


def training_run(folder: Path, *typed: str, busy: bool = False, **environment: str) -> float:
    """Return the images per second of a run of the default recipe, 300 steps, in a process of its own.

    Args:
        folder: For the run.
        typed: Overrides.
        busy: Keep one core busy by another process meanwhile.
        environment: Variables.
    """
    run = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, "-m", "gan_lightning.train", *short_run(), *typed, f"hydra.run.dir={run}"]
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | environment)
    finally:
        if other:
            other.kill()
            other.wait()
    return float(json.loads((run / "metrics.json").read_text(encoding="utf-8"))["images_per_second"])


def busy_machine(folder: Path) -> Measurements:
    """Return functions that measure runs on an idle machine, and next to a process that keeps one core busy."""
    return {
        "idle": partial(training_run, folder),
        "one core busy": partial(training_run, folder, busy=True),
        "one core busy, omp_wait_policy=active": partial(training_run, folder, "omp_wait_policy=active", busy=True),
        "one core busy, OMP_NUM_THREADS=1": partial(training_run, folder, busy=True, OMP_NUM_THREADS="1"),
    }


def measure_busy_machine(rounds: int) -> list[Row]:
    """Measure runs next to a process that keeps one core busy."""
    with tempfile.TemporaryDirectory() as runs:
        return compare("busy machine, default recipe, fp32", busy_machine(Path(runs)), base="idle", rounds=rounds)


def measure_photos(steps: int, rounds: int) -> list[Row]:
    """Measure how a folder of 1,000 photos, and shards of them, are listed and read, and training on them."""
    with tempfile.TemporaryDirectory() as name:
        folder, shards, base = Path(name) / "photos", Path(name) / "shards", "reading, num_workers=0"
        folder.mkdir()
        write_photos(folder, 1000)
        write_shards(folder, shards)
        listed: Measurements = {"listing and reading headers": partial(listing, folder)}
        rows = compare("1,000 photos", listed, base=next(iter(listed)), rounds=rounds, unit="s")
        return rows + compare("1,000 photos", streaming(folder, shards, steps), base=base, rounds=rounds)


def measure_scaling(rounds: int) -> list[Row]:
    """Measure a run on two processes, and two jobs of a sweep at once."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        recipes = {"default": 96, "dcgan": 64}
        for recipe, batch in recipes.items():
            typed = (f"experiment={recipe}", *short_run(300 if recipe == "default" else 60))
            variants = scaling.ranks(training_run, Path(name), *typed, batch=batch)
            rows += compare(f"{recipe}, fp32", variants, base=next(iter(variants)), rounds=rounds)
        sweeps = scaling.jobs(Path(name), *short_run(500))
        return rows + compare("two jobs", sweeps, base="basic", rounds=rounds, unit="s")


def number_of_steps(text: str) -> int:
    """Return the argument as a number of steps, at least four turns of 50."""
    if int(text) < 200:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 200")
    return int(text)


def main() -> None:
    """Measure everything, print each row, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=number_of_steps, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only",
        help="one comparison of training, as 'batch 64, 32-true', or busy, photos or scaling; writes no files",
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"))
    arguments = parser.parse_args()
    steps, rounds, out = arguments.steps, arguments.rounds, arguments.out
    torch.set_num_threads(torch.get_num_threads())  # and no other number from here on
    config.silence_lightning()
    keep_freed_memory()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    head = f"{processor()}, {torch.get_num_threads()} threads, {versions}, {rounds} rounds of {steps} steps"
    head += "\n\n| what | | median | min | max | unit | ratio |\n| --- | --- | --- | --- | --- | --- | --- |"
    print(head)
    rows: list[Row] = []
    bf16 = DEVICE.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    comparisons = training_comparisons(steps, bf16)
    others = {
        "busy": partial(measure_busy_machine, rounds),
        "photos": partial(measure_photos, steps // 10, rounds),
        "scaling": partial(measure_scaling, rounds),
    }
    if arguments.only in others:
        others[arguments.only]()
        return
    if arguments.only:
        if arguments.only not in comparisons:
            parser.error(f"--only={arguments.only}: must be one of {', '.join([*comparisons, *others])}")
        comparisons = {arguments.only: comparisons[arguments.only]}
    for title, variants in comparisons.items():
        rows += compare(title, variants, base="Trainer.fit", rounds=rounds, invert=True)
    if arguments.only:
        return
    out.mkdir(parents=True, exist_ok=True)
    precisions: Measurements = {
        p: partial(loops.by_trainer, steps // 4, "data.batch_size=256", f"trainer.precision={p}")
        for p in ("32-true", "bf16-mixed")
    }
    if DEVICE.type == "cuda":
        rows += compare("batch 64, GPU", on_gpu(steps, 64), base="Trainer.fit", rounds=rounds)
        rows += compare("batch 1024, GPU", on_gpu(steps // 4, 1024), base="Trainer.fit", rounds=rounds)
    if bf16:
        rows += compare("batch 256, precision", precisions, base="32-true", rounds=rounds)
    parts = parts_of_the_step(steps // 4, bf16)
    rows += compare("hand-written loop, one thing changed", parts, base="all", rounds=rounds)
    rows += compare("data path", data_path(700), base="torchvision, PIL, DataLoader", rounds=rounds)
    rows += others["photos"]()
    rows += compare("sampling", sampling(), base="matrix products only", rounds=rounds)
    rows += compare("Parzen window", parzen(), base="matrix product only", rounds=rounds)
    rows += compare("evaluation, 10,000 images", evaluation(), base="all", rounds=rounds, unit="s")
    with tempfile.TemporaryDirectory() as runs:
        start, memory = processes(Path(runs))
        rows += others["busy"]() + others["scaling"]()
        rows += compare("start-up", start, base=next(iter(start)), rounds=rounds, unit="s")
        if sys.platform == "linux":
            rows += compare("peak memory", memory, base=next(iter(memory)), rounds=rounds, unit="MiB")
    (out / "bench.json").write_text(json.dumps({"machine": head.partition("\n")[0], "rows": rows}, indent=2) + "\n")
    (out / "bench.md").write_text("\n".join([head, *map(markdown, rows)]) + "\n")
    print(f"\n{out}/bench.md, bench.json")


if __name__ == "__main__":
    main()

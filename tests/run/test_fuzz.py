"""Every key of every config with values that nobody expects: a run begins, or one line says what is wrong."""

import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import hydra
import pytest
import torch
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from gan_lightning.errors import as_typed
from gan_lightning.gan import GAN
from gan_lightning.run import cli, config, memory, schema, suggest, training
from tests import helpers
from tests.test_configs import CHOICES, NEEDS
from tests.test_configs import ROOTS as ALL_ROOTS

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "35"))  # for each key
RUNS = int(os.environ.get("FUZZ_RUNS", "2"))  # whole runs for every other key
SECONDS, MEMORY = 10, 2 * 10**9  # that an input may take
ROOTS = [root for root in ALL_ROOTS if root != "search"]  # which tests/run/test_search.py tries
GROUPS = {str(path.parent) for path in CHOICES if path.parts[0] != "sweep"}


@dataclass(frozen=True)
class Input:
    """A command with its choices and its overrides; ``typed``: as a whole command, else on a copy of a composition."""

    root: str
    choices: tuple[str, ...]
    overrides: tuple[str, ...]
    typed: bool


# What is fuzzed: whatever conf/ holds


@lru_cache
def groups_of(root: str) -> list[str]:
    """Return the groups of a root config, and the groups below them."""
    defaults = [d for d in OmegaConf.load(config.CONF / f"{root}.yaml").defaults if OmegaConf.is_dict(d)]
    named = {str(key) for default in defaults for key in default}
    return sorted(group for group in GROUPS if group.partition("/")[0] in named)


def options(group: str) -> list[str]:
    return [f"{group}={choice}" for choice in suggest.choices_of(group)]


@lru_cache
def compose(root: str, choices: tuple[str, ...]) -> DictConfig:
    """Return a composed config, with small networks."""
    with hydra.initialize_config_dir(str(config.CONF), version_base="1.3"):
        composed = hydra.compose(root, list(choices))
    for key, value in config.flatten(OmegaConf.to_container(composed)):
        if re.fullmatch(r"model\.\w+\.\w+\[\d+\]", key) and isinstance(value, int) and value > 32:
            OmegaConf.update(composed, key, 8)
    return composed


@lru_cache
def keys(root: str, share: int = 1) -> dict[str, list[tuple[str, ...]]]:
    """Return every key of a root config with the choices that have it, alike ones once; of one choice in ``share``."""
    found: dict[str, dict[Any, tuple[str, ...]]] = {}
    top = set(compose(root, ()))
    bases = [option for group in groups_of(root) for option in options(group)][::share]
    needs = [[need for need in NEEDS.get(base, []) if re.split("[.=]", need)[0] in top] for base in bases]
    for choices in [(), *((base, *need) for base, need in zip(bases, needs, strict=True))]:
        composed = compose(root, choices)
        flat = dict(config.flatten(OmegaConf.to_container(composed)))
        for key in [*suggest.known_keys(composed), *flat]:
            owner = flat.get(f"{key.rpartition('.')[0]}._target_")
            found.setdefault(key.partition("[")[0], {}).setdefault(owner, choices)
    return {key: [*choices.values()] for key, choices in sorted(found.items())}


# Values, as they are typed

NUMBERS = ["0", "1", "-1", "2", "3", "-0.0", "0.5", "1.5", "1e-320", "1e308", "nan", "inf", "-inf", "1e3"]
NUMBERS += [str(number) for number in (10**4, 10**6, 10**9, 2**31, 2**32, 2**63, 10**18, 10**30, -(10**18))]
WORDS = [
    "null",
    "true",
    "false",
    "auto",
    "none",
    "x",
    "é",
    "日本",
    "''",
    "' '",
    "a b",
    "'a b'",
    "'a\nb'",
    "'a\0b'",
    "-",
]
WORDS += [
    "/",
    ".",
    "..",
    "/dev/null",
    "/proc/x/y",
    "x.png",
    "x.json",
    "x.npz",
    "x.onnx",
    "x.html",
    "x.safetensors",
    "a=b",
    "a,b",
]
WORDS += ["x" * 1000, "'" + 300 * "é" + ".png'", "\\", '"', "'%s{}'", "$HOME", "x:y", "'~'", "0x10", "1_000", "007"]
NESTED = ["[]", "[1]", "[1,2]", "[0.5,2]", "[x]", "[null]", "[true,false]", "[[1],[2]]", "[1,28,28]", "[1e9,1e9]"]
NESTED += ["[1000000000,1000000000]", "[nan]", "[1,2,3,4,5,6,7]", "{}", "{a:1}", "{a:{b:[1]}}", "[{a:1}]", "[1"]
NESTED += ["{_target_:builtins.dict}", "{_target_:nonsense.X}", "{_target_:1}", "{_target_:null}", "{_target_:''}"]
NESTED += ["{_target_:gan_lightning.losses.Minimax}", "{_target_:gan_lightning.priors.Normal,dim:3}", "{_target_:[]}"]
NESTED += ["{_partial_:true}", "{_target_:builtins.int,_partial_:x}", "{_target_:os}", "{_target_:builtins.len}"]
REFERENCES = ["${nonsense}", "${seed}", "${model}", "${.x}", "${times:2,x}", "${nonsense:1}", "${now:%Y}", "???", "${"]
UNKNOWN = ["x", "lr", "size", "_target_", "_partial_", "_args_", "_recursive_", "_convert_", "seed", "k", "features"]


def near(value: Any) -> st.SearchStrategy[str]:
    """Return values near a number, slips in a word, and a list with one entry more, fewer or changed."""
    if isinstance(value, bool | dict | None):
        return st.sampled_from(["true", "false", "null", "1"])
    if isinstance(value, int | float):
        n = value
        return st.sampled_from(
            [str(v) for v in (n + 1, n, n - 1, 2 * n, n / 2, -n, n * 10**3, n * 10**9, [n], float(n))]
        )
    if isinstance(value, list):
        inner = near(value[0]) if value else st.just("1")
        changed = inner.map(lambda new: "[" + ",".join([*map(as_typed, value[:-1]), new]) + "]")
        return st.one_of(
            changed, st.sampled_from([as_typed(v).replace(" ", "") for v in (value[:-1], value + value[-1:])])
        )
    word = str(value)
    return st.one_of(
        st.integers(0, len(word)).map(lambda i: config.quoted(word[:i] + word[i + 1 :])),
        st.sampled_from([word.upper(), word + "x", word[::-1], f" {word}"]).map(config.quoted),
    )


def values(key: str, current: Any) -> st.SearchStrategy[str]:
    """Return values for a key."""
    drawn = [
        st.sampled_from(NUMBERS),
        st.sampled_from(WORDS),
        st.sampled_from(NESTED),
        st.sampled_from([*REFERENCES, f"${{{key}}}"]),
        st.integers().map(str),
        st.floats().map(str),
        st.text(max_size=8).map(config.quoted),
    ]
    return st.one_of(*[near(current)] * 4, *drawn)


def plain(node: Any) -> Any:
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) else node


def override(root: str, choices: tuple[str, ...], key: str) -> st.SearchStrategy[str]:
    """Return overrides of a key of a composed config, now and then of an unknown one next to it."""
    current = plain(OmegaConf.select(compose(root, choices), key.replace("/", "."), throw_on_missing=False))
    typed = values(key, current).map(lambda value: f"{key}={value}")
    unknown = st.sampled_from(UNKNOWN).map(lambda name: f"+{key.rpartition('.')[0] or 'x'}.{name}")
    added = st.tuples(unknown, values(key, current)).map("=".join)
    return st.integers(0, 19).flatmap(lambda n: added if n == 19 else st.just(f"~{key}") if n == 18 else typed)


def crossed(draw: st.DrawFn, root: str, choices: tuple[str, ...]) -> tuple[str, ...]:
    """Return other choices as well, or in the place of those."""
    drawn = st.sampled_from(groups_of(root)).flatmap(lambda group: st.sampled_from(options(group)))
    chosen = [*choices, *(choice for choice in draw(st.lists(drawn, max_size=4)) if choice not in NEEDS)]
    return tuple({c.partition("=")[0]: c for c in chosen if c.partition("=")[0] in GROUPS}.values())


@st.composite
def inputs(draw: st.DrawFn, root: str, key: str, known: dict[str, list[tuple[str, ...]]]) -> Input:
    """Return a command with a key changed, by itself or with others, or with choices crossed."""
    choices = draw(st.sampled_from(known[key]))
    names = [key, *draw(st.lists(st.sampled_from([*known]), max_size=2))] if draw(st.booleans()) else [key]
    overrides = tuple(draw(override(root, choices, name)) for name in names)
    if groups_of(root) and draw(st.integers(0, 9)) == 9:
        choices = crossed(draw, root, choices)
    typed = any(o.startswith("~") or o.partition("=")[0] in GROUPS for o in overrides)
    if typed or draw(st.integers(0, 39)) == 39:
        return Input(root, choices, tuple(o.replace("\0", "") for o in overrides), typed=True)  # as no argument has any
    return Input(root, choices, overrides, typed=False)


# What becomes of an input


class Begun(BaseException):
    """Raised where the work itself would begin, with the final config of a training run."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values


class Hang(BaseException):
    """Raised if an input takes too long."""


def begin(*arguments: Any, **_: Any) -> Any:
    configs = [a.hparams["config"] for a in arguments if isinstance(a, GAN) and a.hparams]
    raise Begun(dict(config.flatten(configs[0])) if configs else {})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return helpers.run(tmp_path_factory.mktemp("fuzz") / "run", "trainer.max_steps=1") / "checkpoints" / "last.ckpt"


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stop commands where their work begins, on a machine of little memory, and restore what they set."""
    for place in (
        "pytorch_lightning.Trainer.fit",
        "gan_lightning.callbacks.final_evaluation.evaluate_with_progress",
        "torch.onnx.export",
        "gan_lightning.pages.model_page.write",
        "gan_lightning.visualize.write_images",
        "gan_lightning.visualize.grid",
        "gan_lightning.visualize.nearest_pairs",
    ):
        monkeypatch.setattr(place, begin)
    monkeypatch.setattr(memory, "machine_memory", lambda: MEMORY // 2)
    precision, limits = torch.get_float32_matmul_precision(), resource.getrlimit(resource.RLIMIT_AS)
    yield
    torch.set_float32_matmul_precision(precision)
    torch.use_deterministic_algorithms(False)
    resource.setrlimit(resource.RLIMIT_AS, limits)


@contextmanager
def bounded(seconds: int = SECONDS) -> Iterator[None]:
    """Bound the time and the memory of an input."""

    def stop(*_: Any) -> None:
        raise Hang

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = resource.getrlimit(resource.RLIMIT_AS)
    former = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)


def begin_in_process(given: Input, folder: Path) -> DictConfig:
    """Do what a command does until its work begins, on a copy of a composition."""
    composed = compose(given.root, given.choices).copy()
    overrides = OverridesParser.create().parse_overrides(list(given.overrides))
    ConfigLoaderImpl._apply_overrides_to_config(overrides, composed)
    config.clear_none_choices(composed)
    validated = schema.validate(given.root, composed)
    if given.root == "train":
        training.train(validated, folder, list(given.overrides))
    else:
        import_module(f"gan_lightning.{given.root}").main.__wrapped__(validated)


def outcome(given: Input, folder: Path) -> str:
    """Return the line that a command ends with, or nothing if its work begins; any other error is raised."""
    sys.argv = [given.root, *given.choices, *given.overrides]
    with chdir(folder), bounded():
        try:
            if given.typed:
                done = helpers.command(given.root, *given.choices, *given.overrides, cwd=folder)
                assert done.returncode == 1, done
                assert done.stderr.endswith("\n")
                return done.stderr[:-1]
            with cli.one_line_errors(full=False):
                begin_in_process(given, folder)
        except Begun as begun:
            check_nothing_is_ignored(given, begun.values)
            return ""
        except SystemExit as end:
            return str(end.code)
    raise AssertionError("neither begun nor refused")


def check_nothing_is_ignored(given: Input, final: dict[str, Any]) -> None:
    """Check that the final config has the values that were typed, except for what stands for another value."""
    typed = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(list(given.overrides))}
    for key, value in typed.items():
        stands = value in (None, "auto", "ddp") or "${" in str(value) or key == "trainer.max_steps"
        if key in final and not stands and isinstance(value, bool | int | float | str | None):
            assert final[key] == value or str(final[key]) == str(value) or float(final[key]) == float(value), key


def check(given: Input, checkpoint: Path) -> str:
    """Check the outcome of an input; return the line."""
    if given.root in ("sample", "evaluate", "export") and not any(o.startswith("checkpoint=") for o in given.overrides):
        given = Input(given.root, given.choices, (f"checkpoint={checkpoint}", *given.overrides), given.typed)
    with TemporaryDirectory() as folder:
        line = outcome(given, Path(folder))
    assert "\n" not in line, line
    assert len(line) < 1000, line
    assert line == "" or re.search(r"[:;] |no such|must be|'", line), line
    assert not re.search("allocat|[Oo]verflow", line), line
    return line


def fuzz(key: str, strategy: st.SearchStrategy[Input], examples: int, check: Callable[[Input], Any]) -> None:
    """Call ``check`` with so many inputs, always the same ones for a key."""

    def wrapped(given: Input) -> None:
        check(given)

    options = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
    seed(crc32(key.encode()))(settings(max_examples=examples, **options)(given(given=strategy)(wrapped)))()


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize(("share", "examples"), [(30, 10), pytest.param(1, EXAMPLES, marks=pytest.mark.slow)])
def test_an_input_is_refused_in_one_line_or_the_work_begins(
    root: str, share: int, examples: int, checkpoint: Path
) -> None:
    """Each key of a root config, or one in ``share`` of them, with so many examples."""
    known = keys(root, share)
    for key in [*known][::share]:
        fuzz(key, inputs(root, key, known), examples, lambda given: check(given, checkpoint))


# Whole runs

TINY = [
    "trainer.accelerator=cpu",
    "trainer.max_steps=3",
    "trainer.max_time=00:00:00:05",
    "trainer.val_check_interval=2",
    "trainer.log_every_n_steps=1",
    "num_images=20",
    "data.batch_size=8",
    "callbacks.validation_metrics.num_images=20",
    "callbacks.validation_metrics.num_real=20",
    "metrics.parzen.num_validation=20",
    *(f"metrics.{slow}=null" for slow in ("fid", "kid", "sliced_wasserstein", "precision_recall", "clipped")),
    *(f"metrics.{slow}=null" for slow in ("modes", "nearest_training")),
]
REST = {
    "train": TINY,
    "train_classifier": ["trainer.max_epochs=1", "+trainer.limit_train_batches=2", "+trainer.limit_test_batches=1"],
    "evaluate": [TINY[5], *TINY[-8:]],
    "sample": ["num_images=20"],
}


@st.composite
def plausible(draw: st.DrawFn, root: str, key: str) -> Input:
    """Return a command with values that look right."""
    known = keys(root)
    choices = draw(st.sampled_from(known[key]))
    if groups_of(root) and draw(st.booleans()):
        choices = crossed(draw, root, choices)
    composed, overrides = compose(root, choices), []
    apart = ("trainer.devices", "trainer.num_nodes")  # begin further processes
    for name in [key, *draw(st.lists(st.sampled_from([*known]), max_size=2))]:
        current = plain(OmegaConf.select(composed, name.replace("/", "."), throw_on_missing=False))
        value = st.one_of(near(current), near(current), st.sampled_from(["0", "1", "2", "0.5", "null", "true", "x"]))
        overrides += [] if name in (*GROUPS, *apart) else [f"{name}={draw(value)}"]
    return Input(root, choices, (*REST.get(root, []), *overrides), typed=True)


@pytest.mark.slow
@pytest.mark.parametrize("root", ROOTS)
def test_a_whole_run_ends_well_or_before_training(root: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but what is wrong with the data can be found once a run has begun."""
    steps: list[int] = []
    step = GAN.training_step
    monkeypatch.setattr(GAN, "training_step", lambda *args: steps.append(1) or step(*args))
    monkeypatch.setattr("pytorch_lightning.Trainer.test", lambda *_, **__: [{"accuracy": 0.5}])
    monkeypatch.setattr(memory, "machine_memory", lambda: MEMORY // 2)

    def check(given: Input) -> None:
        steps.clear()
        arguments = [*given.choices, *given.overrides]
        if root in ("sample", "evaluate", "export"):
            arguments = [f"checkpoint={checkpoint}", *arguments]
        with TemporaryDirectory() as folder, bounded(60):
            done = helpers.command(root, *arguments, cwd=Path(folder))
            files = {path.name for path in Path(folder).rglob("*") if path.is_file()}
        if os.environ.get("V"):
            print(
                "RUN",
                done.returncode,
                len(steps),
                [a for a in arguments if a not in REST.get(root, [])],
                done.stderr[:300],
            )
        assert done.returncode in (0, 1), done
        if done.returncode:
            assert not steps, done.stderr
            assert done.stderr.count("\n") == 1, done.stderr
            left = {"config.yaml", "overrides.yaml", "hparams.yaml", f"{root}.log"}  # by a run that finds no such data
            assert all(file in left or file.startswith("events.") for file in files), files

    for key in [*keys(root)][::2]:
        fuzz(key, plausible(root, key), RUNS, check)

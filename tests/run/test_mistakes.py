"""What is reported in one line, before torch is imported."""

import os
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_lightning.errors import InputError
from gan_lightning.run import config, schema, suggest
from gan_lightning.run.fill_in import fill_in
from tests.helpers import ROOT, SMALL, call, command


def assert_refused(done: subprocess.CompletedProcess[str], line: str, folder: Path) -> None:
    """Check that a command ended with one line, beginning as the pattern says, and wrote no files."""
    assert done.returncode == 1
    assert re.fullmatch(f"{line}.*\n", done.stderr), done.stderr
    assert not done.stdout
    assert not [path for path in folder.rglob("*") if path.is_file()]


def validate(*typed: str) -> None:
    schema.validate("train", config.compose("train", list(typed)))


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optimizer.lr=-1", "must be a number of at least 0"),
        ("optimizer.lr=fast", "must be a number"),
        ("optimizer.lr=null", "must be a number"),
        ("optimizer.lr=nan", "must be a number"),
        ("data.batch_size=6.4", "must be a whole number"),
        ("data.batch_size=true", "must be a whole number"),
        ("k=0", "at least 1"),
        ("k=null", "must be a whole number"),
        ("k=[1,2]", "must be a whole number"),
        ("seed=-1", "at least 0"),
        ("seed=4294967296", "must be a number"),
        ("num_images=0", "at least 1"),
        ("compile=x", "must be true or false"),
        ("compile=5", "must be true or false"),
        ("data.in_memory=2", "must be true or false"),
        ("latent_scale=wide", "must be a number"),
        ("monitor_mode=x", "must be one of min, max"),
        ("matmul_precision=low", "must be one of highest, high, medium"),
        ("omp_wait_policy=x", "must be one of auto, active, passive"),
        ("trainer.max_steps=0", "must be at least 1, or -1"),
        ("trainer.max_steps=-1", "the learning rates decay .*optimizer/scheduler=constant"),
        ("trainer.max_epochs=0", "must be at least 1, or -1"),
        ("trainer.max_time=[1]", "must be text"),
        ("trainer.max_epochs=many", "must be a whole number"),
        ("trainer.max_epochs=1.5", "must be a whole number"),
        ("trainer.min_steps=abc", "must be a whole number"),
        ("trainer.limit_val_batches=x", "must be a number"),
        ("trainer.gradient_clip_val=x", "must be a number"),
        ("trainer.num_sanity_val_steps=2", "must be 0: .*validation"),
        ("trainer.use_distributed_sampler=true", "must be false: .*shards the data"),
        ("trainer.overfit_batches=1", "must be 0: .*data.val_size"),
        ("trainer.strategy=ddp_spawn", "process.*use ddp"),
        ("trainer.strategy=ddp_notebook", "process.*use ddp"),
        ("trainer.strategy=fsdp", "two networks.*use ddp"),
        ("trainer.strategy=deepspeed_stage_2", "two networks.*use ddp"),
        ("trainer.strategy=ddp_find_unused_parameters_false", "no gradients.*use ddp"),
        ("trainer.deterministic=maybe", "must be one of true, false, warn"),
        ("trainer.deterministic=1", "must be true or false"),
        ("+deterministic=true", "did you mean trainer.deterministic"),
        ("checkpoint=absent.ckpt", "no such file"),
        *(
            (f"data.image_size={size}", "must be a number of pixels")
            for size in ("0", "x", "null", "[8]", "[8,0]", "true")
        ),
        *((f"data.channels={n}", "must be 1 .* or 3") for n in ("0", "null")),
        # a word in the place of a part
        ("optimizer.scheduler=cosine", "type optimizer/scheduler=cosine$"),
        ("optimizer.scheduler=nonsense", "type optimizer/scheduler=.* constant, cosine, exponential, linear$"),
        ("optimizer.generator=sgd", r"\+optimizer.generator._target_=MODULE.CLASS"),
        ("data.dataset=mnist", r"\+data.dataset._target_=MODULE.CLASS"),
        ("model.generator=mlp", r"\+model.generator._target_=MODULE.CLASS"),
        ("model.prior=normal", r"\+model.prior._target_=MODULE.CLASS"),
        ("callbacks.scalars=x", r"\+callbacks.scalars._target_=MODULE.CLASS"),
        ("metrics.fid=1", r"\+metrics.fid._target_=MODULE.CLASS"),
        # keys that do not exist, added with a +
        ("+callbacks.x=5", r"\+callbacks.x._target_=MODULE.CLASS"),
        ("+metrics.x=5", r"\+metrics.x._target_=MODULE.CLASS"),
        ("+lr=1", r"no such key; did you mean optimizer.lr"),
        ("+trainer.warp=9", "no such key; trainer has accelerator, devices"),
        ("+trainer.logger=false", r"no such key; did you mean logger\?"),
        ("+data.size=3", "no such key"),
        ("+optimizer.weight_decay=1", r"nothing uses this key; .*\+optimizer.generator.weight_decay="),
        ("+model.dropout=0.5", r"nothing uses this key; .*\+model.generator.dropout="),
        ("+average=ema", "use ema=standard or ema=none"),
        # what no key can be
        ("ema._target_=8", "must be a class or a function: ema._target_=MODULE.CLASS"),
        ("monitor=''", "must not be empty"),
        ("trainer.val_check_interval=nan", "must be a number"),
        ("data.seed=-1", "must be a number of at least 0"),
        ("callbacks.paper_figures.seed=4294967296", "must be a number of at least 0 and below"),
        ("penalty._target_=[1]", r"must be a class or a function: penalty._target_=MODULE.CLASS"),
        ("callbacks.validation_metrics.skip=[fad]", "no such metric; must be one of clipped, fid, inception_fid, kid"),
    ],
)
def test_impossible_values(override: str, line: str) -> None:
    key, equals, value = override.removeprefix("+").partition("=")
    key = rf"{re.escape(key)}(\[\d\])?{equals}"
    with pytest.raises(InputError, match=rf"^{key}(?i:{re.escape(value)})?.*: .*{line}"):
        validate(override)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["trainer.val_check_interval=0"], "trainer.val_check_interval=0: must be above 0"),
        (["trainer.limit_train_batches=0"], "trainer.limit_train_batches=0: must be above 0"),
        (["optimizer.generator.lr=-1"], "optimizer.generator.lr=-1: must be a number of at least 0"),
        (["cuda_graphs=true", "trainer.devices=2"], "cuda_graphs=true: needs trainer.devices=1"),
        (["cuda_graphs=true", "trainer.detect_anomaly=true"], "cuda_graphs=true: .*detect_anomaly=false"),
        (["trainer.precision=16-mixed", "trainer.gradient_clip_val=1"], "trainer.gradient_clip_val=1.0: .*16-mixed"),
        (["trainer.max_steps=-1", "trainer.max_epochs=-1"], "trainer.max_steps=-1: the learning rates decay"),
    ],
)
def test_values_that_exclude_each_other(typed: list[str], line: str) -> None:
    with pytest.raises(InputError, match=f"^{line}"):
        validate(*typed)


@pytest.mark.parametrize(
    "typed",
    [
        *([f"trainer.devices={devices}"] for devices in ("auto", "-1", "2", "[0]", "[0,1]")),
        *([f"trainer.val_check_interval={interval}"] for interval in ("10", "0.5", "1.0")),
        ["trainer.max_steps=-1", "trainer.max_epochs=3"],
        ["trainer.max_steps=-1", "optimizer/scheduler=constant"],
        ["trainer.precision=64-true"],
        *([f"trainer.deterministic={value}"] for value in ("true", "false", "warn", "null")),
        ["trainer.fast_dev_run=3"],
        ["+trainer.inference_mode=false"],
        ["callbacks.validation_metrics.skip=[]"],
        ["data=gaussian", "model=mlp_1d"],
        ["+callbacks.mine={_target_: mine.Callback, size: 0.5, gamma: {end: 2}}"],
        ["+model.discriminator.channels=8", "model.discriminator._target_=mine.Network"],
    ],
)
def test_possible_values(typed: list[str]) -> None:
    validate(*typed)


COMPOSED = config.compose("train")


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 10), st.integers(2, 10**6), st.integers(0, 2**32 - 1))
def test_possible_numbers(lr: float, batch_size: int, seed: int) -> None:
    composed = COMPOSED.copy()
    composed.optimizer.lr, composed.data.batch_size, composed.seed = lr, batch_size, seed
    typed = schema.validate("train", composed)
    assert (typed.optimizer.generator.lr, typed.data.batch_size, typed.data.seed) == (2 * lr, batch_size, seed)


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        # keys of other projects
        ("lr=1", r"lr=1: no such key; did you mean optimizer\.lr"),
        ("data=mnst", r"data=mnst: no such choice; did you mean data=mnist\?"),
        ("optimizer/schedule=cosine", "optimizer/schedule=cosine: no such key; did you mean .*optimizer/scheduler"),
        ("hydra/launchr=joblib", r"hydra/launchr=joblib: no such key; did you mean hydra/launcher\?"),
        ("hydra.run.dirr=x", r"hydra\.run\.dirr=x: no such key; did you mean hydra\.run\.dir\?"),
        ("--multirn", r"--multirn: no such flag; did you mean --multirun\?"),
        ("batch_size=3", r"batch_size=3: no such key; did you mean data\.batch_size\?"),
        ("max_steps=5", r"max_steps=5: no such key; did you mean trainer\.max_steps\?"),
        ("epochs=3", r"epochs=3: no such key; use trainer\.max_epochs"),
        ("scheduler=cosine", r"scheduler=cosine: no such key; did you mean optimizer/scheduler\?"),
        ("latent_dim=5", r"latent_dim=5: no such key; did you mean model\.latent_dim"),
        # former keys
        ("average=ema", "average=ema: no such key; use ema=standard or ema=none"),
        ("average.half_life=3", r"average\.half_life=3: no such key; use ema\.half_life"),
        ("penalty.every_n_steps=2", r"penalty\.every_n_steps=2: no such key; use penalty\.interval"),
        ("callbacks.scoring=null", r"callbacks\.scoring=null: no such key; use callbacks\.validation_metrics"),
        ("callbacks.scoring.skip=[]", r"callbacks\.scoring\.skip=\[\]: .*use callbacks\.validation_metrics"),
        ("model.latent.dim=3", r"model\.latent\.dim=3: no such key; use model\.prior"),
        ("metrics.nearest_training.every=2", r".*: no such key; use metrics\.nearest_training\.stride"),
        # slips
        ("trainer.max_step=1", r"trainer\.max_step=1: no such key; did you mean trainer\.max_steps\?"),
        ("callbacks.checkpoint=null", r".*: no such key; did you mean callbacks\.checkpoints\?"),
        ("callbacks.mine._target_=a.B", r"callbacks\.mine\._target_=a\.B: .*type \+callbacks\.mine\._target_="),
        ("optimizer.rate=1", "optimizer.rate=1: no such key; optimizer has .*lr, betas, generator, discriminator"),
        ("+trainer.warp=9", "trainer.warp=9: no such key; trainer has accelerator, "),
        ("colour=red", "colour=red: no such key; --help lists all keys"),
        ("~logger", "~logger: keys cannot be deleted; use logger=n"),
        # choices
        ("model=unheard", "model=unheard: no such choice; allowed: dcgan, goodfellow2014, mlp, mlp_1d"),
        ("optimizer/scheduler=x", "optimizer/scheduler=x: .*allowed: constant, cosine, exponential, linear"),
        ("optimizer.scheduler=cosine", "optimizer.scheduler=cosine: .*type optimizer/scheduler=cosine"),
        (
            "loss=null",
            "loss=null: no such choice; allowed: hinge, least_squares, minimax, non_saturating, relativistic",
        ),
        ("loss=lsgan", "loss=lsgan: no such choice; use loss=least_squares"),
        ("loss=wgan-gp", "loss=wgan-gp: no such choice; use loss=wasserstein penalty=wgan_gp"),
        ("loss=Least-Squares", "loss=Least-Squares: no such choice; use loss=least_squares"),
        ("penalty=r1r2", "penalty=r1r2: no such choice; use penalty=r1_r2"),
        ("data=fashion", "data=fashion: no such choice; use data=fashion_mnist"),
        ("callbacks=1", "callbacks=1: no such choice; allowed: default"),
        ("features=inception", r"features\.weights=\?\?\?: a value is required"),
        ("metrics=inception", r"metrics\.inception_fid\.features\.weights=\?\?\?: a value is required"),
        # values
        ("optimizer.lr=-1", "optimizer.lr=-1: must be a number of at least 0"),
        ("checkpoint=absent.ckpt", "checkpoint=absent.ckpt: no such file"),
        ("data.root='a\nb'", r"data\.root='a\\nb': must not have line breaks or other control characters"),
        ("data.root=${nonsense}", "data.root: Interpolation key 'nonsense' not found"),
        ("data.dataset=[]", r"Error merging override data\.dataset=\[\]: Cannot merge DictConfig with ListConfig"),
        ("loss=[true]", r"loss=\[true\]: no such choice; allowed: hinge, least_squares, minimax, non_saturating"),
        # syntax
        ("trainer.devices=[1", r"trainer\.devices=\[1: not an override; write key=value or group=choice"),
        ("optimizer.lr", "optimizer.lr: not an override; write key=value or group=choice"),
        ("seed=1,2", "seed=1,2: several values; add -m to sweep over them"),
    ],
)
def test_a_mistake_is_reported_in_one_line_and_writes_no_files(argument: str, line: str, tmp_path: Path) -> None:
    done = command("train", argument, cwd=tmp_path)
    assert_refused(done, line, tmp_path)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        *((f"loss={name}", "loss=least_squares") for name in ("lsgan", "mse", "least-squares", "L2")),
        *((f"loss={name}", "loss=wasserstein") for name in ("wgan", "WGAN", "emd")),
        *((f"loss={name}", "loss=wasserstein penalty=wgan_gp") for name in ("wgan_gp", "wgan-gp", "wgangp")),
        *((f"loss={name}", "loss=non_saturating") for name in ("bce", "BCE", "ns", "nsgan", "non-saturating")),
        *((f"loss={name}", "loss=non_saturating or loss=minimax") for name in ("gan", "vanilla", "standard")),
        *((f"loss={name}", "loss=relativistic") for name in ("rpgan", "rsgan", "RpGAN")),
        *((f"loss={name}", "loss=relativistic_average") for name in ("ragan", "RaGAN", "rasgan")),
        ("loss=r3gan", "loss=relativistic penalty=r1_r2"),
        ("loss=dragan", "loss=non_saturating penalty=dragan"),
        *((f"penalty={name}", "penalty=wgan_gp") for name in ("gp", "gradient_penalty", "wgan-gp", "WGANGP")),
        *((f"penalty={name}", "penalty=zero_centered") for name in ("0gp", "0-gp", "zero-centered", "gp0")),
        *((f"penalty={name}", "penalty=weight_clipping") for name in ("clip", "weight_clip")),
        ("penalty=R1R2", "penalty=r1_r2"),
        ("penalty=None", "penalty=none"),
        *((f"data={name}", "data=fashion_mnist") for name in ("fashion", "FashionMNIST", "fashion-mnist")),
        ("data=imagefolder", "data=folder"),
        *((f"model={name}", "model=mlp") for name in ("fc", "dense")),
        ("model=maxout", "model=goodfellow2014"),
    ],
)
def test_familiar_names_of_choices(typed: str, meant: str) -> None:
    group, _, choice = typed.partition("=")
    line = suggest.unknown_choice(group, choice, suggest.choices_of(group))
    assert line == f"{typed}: no such choice; use {meant}"


@pytest.mark.parametrize("typed", suggest.OTHER_NAMES)
def test_familiar_names_lead_to_choices(typed: str) -> None:
    for group, choice in re.findall(r"(\w+)=(\w+)", typed):
        assert choice in suggest.choices_of(group)
    group = typed.partition("=")[0]
    listed = [names.split() for key, names in suggest.OTHER_NAMES.items() if key.startswith(f"{group}=")]
    for name in suggest.OTHER_NAMES[typed].split():
        assert re.fullmatch("[a-z0-9]+", name)
        assert name not in suggest.choices_of(group)
        assert sum(name in names for names in listed) == 1


@pytest.mark.parametrize(
    "typed", ["loss=é", "loss=''", "loss=hedge", "loss=-", "penalty=lsgan", "model=lsgan", "optimizer/scheduler=gan"]
)
def test_other_names_are_answered_with_all_choices(typed: str) -> None:
    group, _, choice = typed.partition("=")
    choices = suggest.choices_of(group)
    assert suggest.unknown_choice(group, choice, choices) == f"{typed}: no such choice; allowed: {', '.join(choices)}"


PROGRAM = """
import sys
sys.modules['torch'] = None  # an import of it fails
sys.argv = ['train', *sys.argv[1:]]
from gan_lightning.train import main
main()
"""


@pytest.mark.parametrize(
    "argument", ["lr=1", "k=x", "optimizer.scheduler=cosine", "model=unheard", "checkpoint=absent"]
)
def test_a_mistake_is_reported_without_torch(argument: str, tmp_path: Path) -> None:
    done = call("-c", PROGRAM, argument, cwd=tmp_path)
    assert_refused(done, f"{argument}: ", tmp_path)


def test_help_lists_the_groups_without_torch(tmp_path: Path) -> None:
    done = call("-c", PROGRAM, "--help", cwd=tmp_path)
    assert done.returncode == 0
    for words in (
        "  loss=non_saturating             hinge, least_squares, minimax, relativistic",
        "  ema=standard                    none",
        "optimizer.lr=5e-4,1e-3",
    ):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("loss._target_=nonsense.X", "loss._target_=nonsense.X: .*No module named 'nonsense'"),
        ("algorithm=simultaneous", "k=2: must be 1.*add k=1"),
        ("monitor=recal", r"monitor=recal: .*did you mean recall\?"),
        ("monitor=validation/acuracy", r"monitor=validation/acuracy: .*did you mean validation/accuracy\?"),
        ("data.val_size=0", "data.val_size=0: must be at least 1"),
        ("trainer.max_time=2s", "trainer.max_time=2s: .*DD:HH:MM:SS"),
    ],
)
def test_mistakes_found_after_importing_torch_write_no_files(argument: str, line: str, tmp_path: Path) -> None:
    done = command("train", argument, cwd=tmp_path)
    assert_refused(done, line, tmp_path)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["data.batch_size=${k}", "k=0"], "k=0: must be a number of at least 1"),
        (["trainer.max_time=${seed}"], "trainer.max_time=0: .*DD:HH:MM:SS"),
        (["trainer.max_steps=${loss._target_}"], "trainer.max_steps=gan_lightning.losses.*: must be a whole number"),
    ],
)
def test_a_reference_to_another_key(tmp_path: Path, typed: list[str], line: str) -> None:
    done = command("train", *typed, cwd=tmp_path)
    assert_refused(done, line, tmp_path)


def test_a_group_is_no_value() -> None:
    composed = config.compose("train")
    composed.data = 3
    with pytest.raises(InputError, match=r"^data=3: must be a group of keys; set one, as in data.NAME=VALUE"):
        schema.validate("train", composed)


def test_a_traceback_on_request(tmp_path: Path) -> None:
    done = call("-c", PROGRAM, "optimizer.lr=-1", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "InputError: optimizer.lr=-1" in done.stderr


# What depends on the machine


def check(*typed: str) -> None:
    fill_in(schema.validate("train", config.compose("train", list(typed))), typed)


@pytest.mark.parametrize(
    ("typed", "strategy"),
    [
        ([], "auto"),
        (["trainer.strategy=ddp"], "ddp_find_unused_parameters_true"),
        (["trainer.devices=2"], "ddp_find_unused_parameters_true"),
        (["trainer.devices=2", "trainer.strategy=single_device"], "single_device"),
    ],
)
def test_data_parallel_training_expects_parameters_without_gradient(typed: list[str], strategy: str) -> None:
    assert fill_in(config.compose("train", typed), typed).trainer.strategy == strategy


@pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has one")
@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("trainer.accelerator=gpu", "trainer.accelerator=gpu: .*gpu"),
        ("cuda_graphs=true", "cuda_graphs=true: needs a CUDA GPU.*use "),
    ],
)
def test_what_needs_a_gpu(typed: str, line: str, tmp_path: Path) -> None:
    done = command("train", typed, cwd=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(f"{line}.*\n", done.stderr), done.stderr
    assert not list(tmp_path.rglob("*.yaml"))


# The monitored metric


@pytest.mark.parametrize(
    ("typed", "monitor", "mode"),
    [
        ([], "fid", "min"),
        (["features=none"], "parzen_ll", "max"),
        (["metrics.fid=null"], "parzen_ll", "max"),
        (["callbacks.validation_metrics.skip=[fid]"], "parzen_ll", "max"),
        (["callbacks.validation_metrics=null"], "validation/loss_generator", "min"),
        (["monitor=recall"], "recall", "max"),
        (["monitor=recall", "monitor_mode=min"], "recall", "min"),
        (["monitor=validation/accuracy"], "validation/accuracy", "max"),
        (["monitor=validation/loss_generator"], "validation/loss_generator", "min"),
        (["monitor=mine", "monitor_mode=max", "+callbacks.mine._target_=mine.Callback"], "mine", "max"),
    ],
)
def test_monitor(typed: list[str], monitor: str, mode: str) -> None:
    filled_in = fill_in(config.compose("train", typed), typed)
    assert (filled_in.monitor, filled_in.monitor_mode) == (monitor, mode)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["monitor=recal"], r"monitor=recal: .*available are parzen_ll, .*did you mean recall\?"),
        (["monitor=metrics/fid"], r"monitor=metrics/fid: .*did you mean fid\?"),
        (["monitor=accuracy"], r"monitor=accuracy: .*did you mean validation/accuracy\?"),
        (["monitor=kid"], "monitor=kid: not computed during validation"),
        (["monitor=parzen_sigma"], "monitor=parzen_sigma: .*set monitor_mode to min or max"),
        (
            ["monitor=validation/probability_real"],
            "monitor=validation/probability_real: .*set monitor_mode to min or max",
        ),
        (["monitor=mine", "+callbacks.mine._target_=mine.Callback"], "monitor=mine: .*set monitor_mode to min or max"),
        (["monitor=fid", "features=none"], "monitor=fid: not computed during validation"),
        (["monitor=fid", "callbacks.validation_metrics=null"], "monitor=fid: not computed during validation"),
    ],
)
def test_what_cannot_be_monitored(typed: list[str], line: str) -> None:
    with pytest.raises(InputError, match=f"^{line}"):
        check(*typed)


# Printed commands


@pytest.mark.parametrize("how", ["--config-dir={}", "hydra.searchpath=[file://{}]"])
def test_configs_and_classes_from_another_folder(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a run, and in the printed command that resumes it."""
    mine = tmp_path / "mine"
    (mine / "loss").mkdir(parents=True)
    (mine / "loss" / "own.yaml").write_text("_target_: my_losses.Own\n")
    (mine / "my_losses.py").write_text(
        "from gan_lightning.losses import NonSaturating\nclass Own(NonSaturating): ...\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{mine}")
    monkeypatch.syspath_prepend(mine)
    run = command("train", how.format(mine), *SMALL, "loss=own", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    (resume,) = re.findall(r"^train longer +(.*)$", run.stdout, re.MULTILINE)
    assert resume.startswith(f"PYTHONPATH={ROOT}:{mine} python -m gan_lightning.train {shlex.quote(how.format(mine))} ")
    if how.startswith("--"):
        resume = resume.replace(" python ", f" {sys.executable} ")
        pasted = subprocess.run(resume, cwd=tmp_path, shell=True, capture_output=True, text=True, check=False)
    else:
        pasted = command("train", *shlex.split(resume)[4:], cwd=tmp_path)
    assert pasted.returncode == 0, pasted.stderr
    assert "The learning rates now fall until step 24 instead of step 12" in pasted.stdout


def test_installed_from_a_wheel(tmp_path: Path) -> None:
    """The wheel holds conf/ and works in any folder; the source archive holds every file of the package."""
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--sdist", "--outdir", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        packed = {name.partition("/")[2] for name in opened.getnames()}
    files = [path for folder in ("conf", "gan_lightning") for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert packed.issuperset(str(path.relative_to(ROOT)) for path in files if path.suffix != ".pyc")
    (wheel,) = tmp_path.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    slow = ("kid", "precision_recall", "clipped", "nearest_training")  # FID stays: the classifier is in the wheel
    small = [
        "trainer.max_steps=2",
        "num_images=200",
        "callbacks.validation_metrics=null",
        *(f"metrics.{metric}=null" for metric in slow),
        f"data.root={ROOT / 'data'}",
        "trainer.accelerator=cpu",
    ]
    site = {"PYTHONPATH": str(tmp_path / "site")}
    done = call("-m", "gan_lightning.train", *small, cwd=elsewhere, **site)
    assert done.returncode == 0, done.stderr
    assert list(elsewhere.glob("outputs/default/*/checkpoints/last.ckpt"))
    where = call("-c", "import gan_lightning; print(gan_lightning.__file__)", cwd=elsewhere, **site)
    assert where.stdout.startswith(str(tmp_path / "site"))
    load = "import gan_lightning as g; [g.load(n) for n in ('mnist', 'mnist_conditional', 'mnist_resnet', 'ring')]"
    assert call("-c", load, cwd=elsewhere, **site).returncode == 0
    script = [sys.executable, str(tmp_path / "site" / "bin" / "gan-lightning"), "train", "--help", "k"]
    done = subprocess.run(script, cwd=elsewhere, env=os.environ | site, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("  k=2 "), done.stderr
    assert (tmp_path / "site" / "gan_lightning" / "py.typed").exists()

"""Messages for keys and choices that do not exist, with the ones that may be meant."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from gan_lightning.errors import as_typed
from gan_lightning.run.config import flatten
from gan_lightning.run.config_files import CONF

RENAMED = {  # former keys, and words of other projects
    "average.latent_scale": "latent_scale",
    "average.ramp": "ema.rampup_ratio",
    "average.half_life": "ema.half_life",
    "average": "ema=standard or ema=none",
    "model.latent": "model.prior",
    "penalty.every_n_steps": "penalty.interval",
    "callbacks.scoring": "callbacks.validation_metrics",
    "metrics.nearest_training.every": "metrics.nearest_training.stride",
    "device": "trainer.accelerator",
    "epochs": "trainer.max_epochs",
    "gpus": "trainer.devices",
    "z_dim": "model.latent_dim",
    "nz": "model.latent_dim",
    "gpu": "trainer.devices",
    "n_critic": "k",
    "critic_iters": "k",
    "d_steps": "k",
    "class": "label",
    "num_labels": "model.num_classes",
    "class_conditional": "model.num_classes",
    "conditional": "model.num_classes",
    "projection": "model.num_classes",
    "label_smoothing": "loss.label_smoothing",
    "lambda_gp": "penalty.gamma",
    "gp_weight": "penalty.gamma",
    "clip_value": "penalty.bound",
    "img_size": "data.image_size",
    "data.size": "data.image_size",
    "data.dataset.channels": "data.channels",
    "model.batch_norm": "model.discriminator.batch_norm",
}

FLAGS = (  # Hydra's, and ours
    *("--help", "--info", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun"),
    *("--shell-completion", "--config-path", "--config-name", "--config-dir", "--experimental-rerun"),
)
OTHER_NAMES = {  # what to type, and how papers and other projects call it, in small letters and digits
    "loss=non_saturating or loss=minimax": "gan vanilla standard original",
    "loss=minimax": "mm mmgan saturating",
    "loss=non_saturating": "ns nsgan bce bcewithlogits crossentropy logistic",
    "loss=least_squares": "ls lsgan mse l2",
    "loss=hinge": "hingeloss hingegan geometricgan",
    "loss=wasserstein": "w wgan wassersteingan emd",
    "loss=wasserstein penalty=wgan_gp": "wgangp",
    "loss=relativistic": "rgan rpgan rsgan",
    "loss=relativistic penalty=r1_r2": "r3gan",
    "loss=relativistic_average": "ra ragan rasgan",
    "loss=non_saturating penalty=dragan": "dragan",
    "penalty=wgan_gp": "gp wgan 1gp gradientpenalty",
    "penalty=zero_centered": "0gp gp0 zerogp zcgp",
    "penalty=r1_r2": "r3gan",
    "penalty=weight_clipping": "clip clipping weightclip wc",
    "model=mlp": "fc dense linear fullyconnected article",
    "model=goodfellow2014": "maxout goodfellow paper",
    "model=dcgan": "gan vanilla conv cnn convnet",
    "model=resnet": "biggan sngan r3gan resgan",
    "data=fashion_mnist": "fashion fmnist clothes",
    "data=kmnist": "kuzushiji",
    "data=mnist": "digits",
    "features=inception": "inceptionv3 fid inceptionfid",
    "data=folder": "images imagefolder own custom",
    "data=gaussian": "normal 1d",
    "data=ring": "8gaussians gaussians gmm",
    "data=grid": "25gaussians",
    "data=two_moons": "moons",
    "experiment=ring data=spiral": "spiral",
    "experiment=ring data=two_moons": "moons twomoons",
    "experiment=least_squares": "lsgan",
    "experiment=hinge": "sngan",
    "experiment=relativistic_average": "ragan rasgan",
    "experiment=conditional": "cgan acgan",
}


def choices_of(group: str) -> list[str]:
    """Return the choices of a config group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def unknown_choice(group: str, choice: str, choices: Sequence[str], folders: Sequence[Path] = ()) -> str:
    """Return the message for a choice that a group does not have, with the one that is meant or all that it has.

    Args:
        group: The group.
        choice: The choice.
        choices: All that the group has.
        folders: Those of --config-dir, in which the choice's file may be in the wrong place.
    """

    def letters(name: str) -> str:
        return re.sub("[^a-z0-9]", "", name.lower())

    message, name = f"{group}={as_typed(choice)}: no such choice", letters(choice)
    if place := misplaced(group, choice, folders):
        return f"{message}; {place}"
    same = [f"{group}={known}" for known in choices if letters(known) == name]
    meant = [typed for typed, names in OTHER_NAMES.items() if typed.startswith(f"{group}=") and name in names.split()]
    if same + meant:
        return f"{message}; use {(same + meant)[0]}"
    if close := difflib.get_close_matches(choice, choices, n=1, cutoff=0.75):
        return f"{message}; did you mean {group}={close[0]}?"
    return f"{message}; allowed: {', '.join(choices)}"


def unknown_flag(arguments: Sequence[str]) -> str | None:
    """Return the message for the first argument that is a flag which there is not, or None."""
    for name in (argument.partition("=")[0] for argument in arguments if argument.startswith("--")):
        if not any(flag.startswith(name) for flag in FLAGS):
            close = difflib.get_close_matches(name, FLAGS, n=1)
            return f"{name}: no such flag; " + (f"did you mean {close[0]}?" if close else "--help lists some")
    return None


def misplaced(group: str, choice: str, folders: Sequence[Path]) -> str:
    """Return what to do with the file of a choice that is not where Hydra looks for it; nothing if there is none."""
    if not re.fullmatch(r"[\w.-]+", choice):
        return ""
    for folder in folders:
        if folder.name == group and (folder / f"{choice}.yaml").is_file():
            return f"use --config-dir={folder.parent}, the folder that holds {group}/"
        for pattern in (f"{choice}.yaml", f"*/{choice}.yaml", f"{group}/{choice}.yml"):
            for path in folder.glob(pattern):
                return f"{path} must be {folder / group / choice}.yaml"
    for path in Path().glob(f"*/{group}/{choice}.yaml"):
        return f"to use {path}, add --config-dir={path.parts[0]}"
    return ""


def known_keys(config: DictConfig) -> list[str]:
    """Return the keys of a config and its groups, for suggestions."""
    keys = [re.sub(r"(\[\d+\]|\._\w+_)$", "", key) for key, _ in flatten(OmegaConf.to_container(config))]
    groups = [str(path.relative_to(CONF)) for path in CONF.rglob("*") if path.is_dir() and "hydra" not in str(path)]
    named = {group.replace("/", ".") for group in groups if "/" in group}  # a part that is chosen with a slash
    return [key for key in dict.fromkeys(keys + groups) if not key.startswith("hydra") and key not in named]


def unknown_key(typed: str, key: str, known: list[str]) -> str:
    """Return the message for ``key=value`` as typed if the key does not exist, with known keys that may be meant."""
    message, name = f"{typed}: no such key", typed.partition("=")[0]
    for old, new in RENAMED.items():
        exists = "=" in new or any(other == new or other.startswith(new.partition(".")[0] + ".") for other in known)
        if exists and (name == old or name.startswith(f"{old}.")):
            return f"{message}; use {new}"
    parent, last = key.rpartition(".")[0], re.split(r"[./]", key)[-1]
    if parent.partition(".")[0] == last:
        return f"{message}; if it is in a YAML file of a data set, that must begin with # @package _global_"
    if not known:
        return f"{message}; {parent} takes none"
    ends = {name: re.split(r"[./]", name)[-1] for name in sorted(known, key=len) if name != key}
    siblings = [name for name in ends if parent and name.startswith(f"{parent}.")]

    def close(names: list[str], cutoff: float) -> list[str]:
        matches = difflib.get_close_matches(last, {ends[name] for name in names}, n=2, cutoff=cutoff)
        return [name for end in matches for name in names if ends[name] == end]

    same = [name for name in ends if ends[name] == last]
    if meant := close(siblings, 0.8) or same or close(siblings or [*ends], 0.6):
        return f"{message}; did you mean {' or '.join(meant[:3])}?"
    if parent in ("callbacks", "metrics"):
        return f"{message}; to add it, type +{key}._target_=MODULE.CLASS"
    has = dict.fromkeys(name.removeprefix(f"{parent}.").split(".")[0] for name in known if name in siblings)
    return f"{message}; {parent} has {', '.join(has)}" if siblings else f"{message}; --help lists all keys"

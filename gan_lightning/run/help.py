"""What ``--help`` prints: groups, choices and keys with the comments of ``conf/``."""

import shutil
import textwrap
from collections.abc import Iterable, Iterator

from gan_lightning.errors import InputError
from gan_lightning.run.config_docs import choices, summary
from gan_lightning.run.config_files import ConfigFiles, content, folders_of

COMMON = (  # keys of groups that most runs change
    "trainer.max_steps",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.precision",
    "trainer.val_check_interval",
    "data.root",
    "data.batch_size",
    "data.image_size",
    "model.latent_dim",
    "model.num_classes",
    "optimizer.lr",
    "penalty.gamma",
    "ema.half_life",
    "callbacks.sample_grid.every_n_steps",
)
INDENT, COLUMN = "  ", 30
MISSING = "???"
GLOBAL = ("experiment", "sweep")  # groups whose choices set keys of others


def help_page(name: str, arguments: list[str]) -> str | None:
    """Return the page that a command's arguments ask for with ``--help`` or ``-h``; None if they do not.

    An argument behind it is the topic: a group, a choice of one, or a key. The values are those of the other arguments.

    Raises:
        InputError: If there is no such group or key.
    """
    flag = next((i for i, argument in enumerate(arguments) if argument in ("--help", "-h")), None)
    if flag is None:
        return None
    after = arguments[flag + 1 :]
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    folders = folders_of(arguments)
    files = ConfigFiles(name, overrides, folders)
    for group, choice in files.choices.items():
        if choice not in (*(known := files.choices_of(group)), "null"):
            from gan_lightning.run.suggest import unknown_choice  # imports Hydra

            raise InputError(unknown_choice(group, choice, known, folders))
    topic = after[0].partition("=")[0].rstrip("/.") if after and not after[0].startswith("-") else ""
    lines = topic_page(files, name, topic) if topic else command_page(files, name)
    return "\n".join(lines)


def command_page(files: ConfigFiles, name: str) -> Iterator[str]:
    """Yield the lines on a command: what it does, its groups and its keys."""
    yield content(files.root)["hydra"]["help"]["header"].rstrip()
    if groups := [*_groups(files, name)]:
        yield from ("", "Groups, chosen as in loss=hinge, with their other choices; --help GROUP explains one:")
        comments = {group: comment for group, _, comment in choices(files.root)}
        for group in groups:
            chosen = files.choices.get(group, "basic")
            others = ", ".join(choice for choice in files.choices_of(group) if choice != chosen)
            yield from _row(f"{group}={chosen}", others + (f" ({c})" if (c := comments.get(group)) else ""))
    inner = tuple(f"{group}." for group in (*groups, "hydra"))
    listed = inner if name != "search" else ("hydra.",)
    tops = [key for key in files.keys if not key.startswith(listed) and key not in ("hydra", *groups)]
    yield from ("", "Keys, set as in KEY=VALUE, with their present values:")
    yield from _rows(files, tops)
    if common := [key for key in COMMON if key in files.keys and key.startswith(inner)]:
        yield from ("", "Keys of groups that are often set; --help GROUP lists all, as --help trainer:")
        yield from _rows(files, common)
    yield ""
    if name == "search":
        yield "All keys and groups of training can be set or searched: python -m gan_lightning.train --help"
    if name == "train":
        yield "--info describes the run without training; -m runs a sweep over values as in k=1,2."
    yield "--cfg job prints the whole config; --config-dir=FOLDER adds your own; --hydra-help: more flags."


def topic_page(files: ConfigFiles, name: str, topic: str) -> Iterator[str]:
    """Yield the lines on a group or a key; InputError if there is neither."""
    names = files.choices_of(topic)
    keys = [key for key in files.keys if f"{key}.".startswith(f"{topic.replace('/', '.')}.")]
    known = topic in _groups(files, name)
    if not known and not keys:
        from gan_lightning.run.suggest import unknown_key  # imports Hydra

        everything = [*_groups(files, name), *(key for key in files.keys if not key.startswith("hydra"))]
        raise InputError(
            unknown_key(f"--help {topic}", topic, everything).replace("no such key", "no such group or key")
        )
    if not known:
        yield from _rows(files, keys)
        return
    chosen = files.choices.get(topic, "basic" if "basic" in names else "null")
    yield f"Choices of {topic}:"
    for choice in names:
        path = files.path(topic, choice)
        text = summary(path) if path else "One after another, in processes of their own"
        yield from _row(f"{topic}={choice}", text)
    path = files.path(topic, chosen)
    if topic in GLOBAL or topic.startswith("hydra/"):
        entries = [(key, value, comment) for key, value, comment in files.own_entries(topic) if value and path]
        rows = [line for key, value, comment in entries for line in _row(f"{key}={value}", comment)]
    else:
        rows = [*_rows(files, [key for key in keys if key != topic])]
    if rows:
        others = f"; for those of another choice, --help {topic}=CHOICE" if len(names) > 1 else ""
        yield from ("", f"Keys of {topic}={chosen}{others}:")
        yield from rows


def _groups(files: ConfigFiles, name: str) -> Iterator[str]:
    """Yield the groups of a command."""
    for group in files.choices:
        if not group.startswith("hydra") and files.choices_of(group):
            yield group
    if name == "train":
        yield "hydra/launcher"


def _rows(files: ConfigFiles, keys: Iterable[str]) -> Iterator[str]:
    """Yield the lines on keys: their values and comments."""
    for key in keys:
        value, comment = files.keys[key]
        has_keys = any(other.startswith(f"{key}.") for other in files.keys)
        if key.endswith("._partial_") or (has_keys and not comment):
            continue
        required = "required; " if value == MISSING and comment else ""
        yield from _row(f"{key}: " if has_keys else f"{key}={value}", f"{required}{comment}")


def _row(left: str, right: str) -> Iterator[str]:
    """Yield the lines of a row of two columns, the second of which is wrapped."""
    width = max(60, min(shutil.get_terminal_size((110, 24)).columns, 120))
    column = COLUMN + 2 * len(INDENT)
    wrapped = textwrap.wrap(right, width - column, break_on_hyphens=False) or [""]
    if len(left) > COLUMN:
        yield f"{INDENT}{left}"
    else:
        yield f"{INDENT}{left:{COLUMN}}{INDENT}{wrapped.pop(0)}".rstrip()
    yield from (f"{' ' * column}{line}" for line in wrapped if line)

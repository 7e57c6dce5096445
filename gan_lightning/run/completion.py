"""Completion of commands, groups, choices and keys in a shell; Hydra's own does not know ``python -m MODULE``."""

import re
from collections.abc import Iterator

from gan_lightning.run.config_files import CONF, PACKAGE, ConfigFiles, folders_of

# The answers are whole words, of which readline replaces what is behind the last =. Without any, it completes files.
BASH = r"""
_gan_lightning() {
    local line="${COMP_LINE:0:COMP_POINT}" query=("${COMP_WORDS[0]}")
    [[ $line == *gan[_-]lightning* ]] || return
    [[ $query == *python* ]] && query+=(-m gan_lightning)
    local word="${line##*[[:space:]]}" answer IFS=$'\n'
    COMPREPLY=()
    for answer in $("${query[@]}" complete "$line" 2>/dev/null); do
        [[ $word == *=* && $COMP_WORDBREAKS == *=* ]] && answer="${answer#"${word%=*}="}"
        COMPREPLY+=("$answer")
    done
}
complete -o nospace -o default -F _gan_lightning gan-lightning python python3
"""
FLAGS = ("-m", "--help", "--cfg=job", "--config-dir=", "--hydra-help")
PATHS = re.compile(r"checkpoint|out|data\.root|.*weights|--config-dir")  # what a shell completes better


def commands() -> list[str]:
    """Return the names of the commands."""
    return [path.stem for path in sorted(CONF.glob("*.yaml")) if (PACKAGE / path.name).with_suffix(".py").exists()]


def answers(line: str) -> list[str]:
    """Return what the last word of a command line, up to the cursor, can be; a complete word is followed by a space."""
    found = re.search(r"(?:-m\s+gan_lightning(?P<dot>\.\w*)?|gan-lightning)(?P<rest>\s.*)?$", line, re.DOTALL)
    if not found:
        return []
    rest = found["rest"]
    if rest is None:
        return [f"gan_lightning.{name} " for name in commands() if f".{name}".startswith(found["dot"] or "")]
    words = rest.split()
    last = words.pop() if words and not rest[-1].isspace() else ""
    if found["dot"]:
        words.insert(0, found["dot"][1:])
    if not words:
        return [f"{name} " for name in commands() if name.startswith(last)]
    name, *typed = words
    if name not in commands():
        return []
    folders = folders_of(typed)
    names = ("search", "train") if name == "search" else (name,)
    files = [ConfigFiles(name, [a for a in typed if not a.startswith("-")], folders) for name in names]
    if last.startswith("-"):
        flags = (*FLAGS, "--info") if name == "train" else FLAGS
        return sorted(flag if flag.endswith("=") else f"{flag} " for flag in flags if flag.startswith(last))
    found_words = {word for one in files for word in (_values(one, last) if "=" in last else _keys(one, last))}
    if typed[-1:] == ["--help"]:
        return sorted({f"{word.rstrip('=.')} " for word in found_words})
    return sorted(found_words)


def _values(files: ConfigFiles, word: str) -> Iterator[str]:
    """Yield the words that ``key=...`` can be; behind a comma, as in a sweep, the next value."""
    key, _, value = word.partition("=")
    before, comma, value = value.rpartition(",")
    present, _ = files.keys.get(key, ("", ""))
    values = files.choices_of(key) or (["true", "false"] if present in ("true", "false") else [present])
    if not PATHS.fullmatch(key):
        yield from (f"{key}={before}{comma}{v} " for v in values if v and v.startswith(value) and "${" not in v)


def _keys(files: ConfigFiles, word: str) -> Iterator[str]:
    """Yield the groups and keys that begin with a word, as far as the next dot."""
    yield from (f"{group}=" for group in [*files.choices, "hydra/launcher"] if group.startswith(word))
    for key in files.keys:
        if key.startswith(word) and not key.endswith("_partial_") and not key.startswith("hydra"):
            dot = key.find(".", len(word))
            name = key if dot < 0 else key[:dot]
            is_parent = dot >= 0 or any(other.startswith(f"{key}.") for other in files.keys)
            yield f"{name}." if is_parent else f"{name}="

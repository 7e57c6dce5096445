"""What config files say about themselves: the comment at their head, and the one behind each key."""

from collections.abc import Iterator
from pathlib import Path

import yaml

Entry = tuple[str, str, str]  # key, value as written, comment


def summary(path: Path) -> str:
    """Return the first paragraph of the comment at the head of a config file as one line; "" if there is none."""
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.removeprefix("#").strip()
        if not line.startswith("#") or (lines and not text):
            break
        lines += [text] if text and not text.startswith("@package") else []
    return " ".join(lines)


def describe(path: Path) -> list[Entry]:
    """Return each key of a config file, but ``defaults``, with its value and its comment, either of which may be "".

    A nested key is ``data.root``, and follows ``data``, whose value is "". A list over several lines is ``[a, b]``.
    """
    text = path.read_text(encoding="utf-8")
    return [entry for entry in _entries(text, yaml.compose(text), "") if entry[0].partition(".")[0] != "defaults"]


def choices(path: Path) -> list[Entry]:
    """Return each group in the ``defaults`` of a config file with its choice and its comment; no ``override``."""
    text = path.read_text(encoding="utf-8")
    root = yaml.compose(text)
    lists = [value for key, value in root.value if key.value == "defaults"] if root else []
    items = [item for items in lists for item in items.value if isinstance(item, yaml.MappingNode)]
    entries = [entry for item in items for entry in _entries(text, item, "")]
    return [entry for entry in entries if not entry[0].startswith("override ")]


def _entries(text: str, mapping: yaml.Node | None, prefix: str) -> Iterator[Entry]:
    """Yield the keys of a node of a YAML text with their values and comments, nested ones after their parent."""
    for key, value in mapping.value if isinstance(mapping, yaml.MappingNode) else ():
        name = f"{prefix}{key.value}"
        is_block = not value.flow_style if isinstance(value, yaml.CollectionNode) else value.style in ("|", ">")
        end = key.end_mark.index if is_block else value.end_mark.index
        comment = text[end:].partition("\n")[0].partition("#")[2].strip()
        written = text[value.start_mark.index : value.end_mark.index].strip()
        if is_block and isinstance(value, yaml.SequenceNode):
            written = f"[{', '.join(text[i.start_mark.index : i.end_mark.index] for i in value.value)}]"
        elif is_block and isinstance(value, yaml.MappingNode):
            written = ""
        yield name, written, comment
        if is_block:
            yield from _entries(text, value, f"{name}.")

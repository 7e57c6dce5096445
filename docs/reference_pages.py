"""The generated pages of the site: a page per config group, per command and per part of the package."""

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from gan_lightning.run.config_docs import choices, summary
from gan_lightning.run.config_files import CHECKOUT, CONF, PACKAGE, bases, content, described, listed, package

INTERNAL = ("hydra/callbacks", "hydra/job_logging")  # groups that nobody chooses from
# Page -> modules, in the order of the index; a package stands for all its modules
API = {
    "load": ["gan_lightning"],
    "gan": ["gan_lightning.gan", "gan_lightning.simultaneous"],
    "losses": ["gan_lightning.losses"],
    "penalties": ["gan_lightning.penalties"],
    "priors": ["gan_lightning.priors"],
    "networks": ["gan_lightning.networks"],
    "ema": ["gan_lightning.ema"],
    "schedules": ["gan_lightning.schedules"],
    "data": ["gan_lightning.data"],
    "metrics": ["gan_lightning.metrics"],
    "callbacks": ["gan_lightning.callbacks"],
    "loggers": ["gan_lightning.loggers"],
    "sampling": ["gan_lightning.sampling", "gan_lightning.visualize"],
}
GROUPS = sorted({str(path.parent.relative_to(CONF)) for path in CONF.glob("*/**/*.yaml")} - {*INTERNAL})
COMMANDS = sorted(path.stem for path in CONF.glob("*.yaml"))


def write(folder: Path) -> None:
    """Write all pages to a folder, in place of what it holds. Unchanged pages keep their time, so Sphinx skips them."""
    pages = {
        "commands/index.md": index("Commands", "Each is typed `python -m gan_lightning.NAME`.", COMMANDS),
        "config/index.md": index(
            "Config groups",
            "A group is chosen by `GROUP=CHOICE`, a key set by `KEY=VALUE`, as they stand in the tables.",
            [page_of(group) for group in GROUPS],
        ),
        "api/index.md": index("Python", "The docstrings of the parts that you call or replace.", [*API]),
    }
    pages |= {f"config/{page_of(group)}.md": group_page(group) for group in GROUPS}
    pages |= {f"commands/{command}.md": command_page(command) for command in COMMANDS}
    pages |= {f"api/{name}.md": api_page(name) for name in API}
    pages |= {
        f"{name.lower()}.md": with_site_links((CHECKOUT / f"{name}.md").read_text(encoding="utf-8"), CHECKOUT)
        for name in COPIED
    }
    for old in set(folder.rglob("*.md")) - {folder / name for name in pages}:
        old.unlink()
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def page_of(group: str) -> str:
    """Return the name of a group's page."""
    return group.replace("/", "_")


def index(title: str, text: str, pages: Iterable[str]) -> str:
    """Return a page that lists others in its folder."""
    listed = "\n".join(pages)
    return f"# {title}\n\n{text}\n\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n"


def group_page(group: str) -> str:
    """Return the page of a config group: its choices, then the keys of each."""
    paths = sorted((CONF / group).glob("*.yaml"))
    rows = [f"| [`{path.stem}`](#{path.stem}) | {markdown(summary(path))} |" for path in paths]
    lines = [f"# {group}", "", f"`{group}=CHOICE`", "", "| choice | |", "| --- | --- |", *rows]
    for path in paths:
        lines += ["", f"## {path.stem}", "", *head(path), "", *origins(path), *keys_table(path)]
    return "\n".join(lines) + "\n"


def command_page(command: str) -> str:
    """Return the page of a command: what its help shows first, its groups and its keys."""
    path = CONF / f"{command}.yaml"
    header = content(path)["hydra"]["help"]["header"]
    lines = [f"# {command}", "", *paragraphs(header), ""]
    groups = [entry for entry in choices(path) if entry[0] in GROUPS]
    if groups:
        lines += ["## Groups", "", "| group | choice | |", "| --- | --- | --- |"]
        for group, choice, comment in groups:
            file = CONF / group / f"{choice}.yaml"
            text = comment or (summary(file) if file.exists() else "")
            lines.append(f"| [`{group}`](../config/{page_of(group)}.md) | {code(choice)} | {markdown(text)} |")
    if table := keys_table(path):
        lines += ["", "## Keys", "", *table]
    return "\n".join(lines) + "\n"


def api_page(name: str) -> str:
    """Return a page of the docstrings of some modules."""
    lines = [f"# {name}"]
    for module in API[name]:
        path = PACKAGE.parent / module.replace(".", "/")
        files = sorted(path.glob("*.py")) if path.is_dir() and module != "gan_lightning" else []
        parts = [f"{module}.{file.stem}" for file in files if file.stem != "__init__"]
        for part in parts or [module]:
            heading = ["", f"## `{part}`"] if len(parts or API[name]) > 1 else []
            lines += [*heading, "", "```{eval-rst}", f".. automodule:: {part}", "   :members:", "```"]
    return "\n".join(lines) + "\n"


# Config files


def head(path: Path) -> list[str]:
    """Return the comment at the head of a config file as Markdown."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines += [] if "@package" in line else [line.removeprefix("#").removeprefix(" ")]
    return paragraphs("\n".join(lines))


def paragraphs(text: str) -> list[str]:
    """Return a text as Markdown, in which indented lines are commands."""
    blocks = re.split(r"\n\s*\n", text.strip("\n"))
    commands = [block.startswith("  ") for block in blocks]
    return [
        line
        for block, is_command in zip(blocks, commands, strict=True)
        for line in (["```bash", textwrap.dedent(block), "```", ""] if is_command else [markdown(block), ""])
    ][:-1]


def origins(path: Path) -> list[str]:
    """Return a paragraph that links what a config file is based on and what it chooses."""
    extended, chosen = defaults(path)
    based = [f"[`{base}`](#{base})" for base in extended]
    links = [f"[`{g}={c}`]({page_of(g)}.md#{c})" for g, c in chosen.items() if (CONF / g / f"{c}.yaml").exists()]
    parts = [f"Based on {', '.join(based)}"] if based else []
    parts += [("with " if based else "Chooses ") + ", ".join(links)] if links else []
    return [f"{', '.join(parts)}.", ""] if parts else []


def defaults(path: Path) -> tuple[list[str], dict[str, str]]:
    """Return the files of its own group that a config file is based on, and its choices of other groups."""
    group, pairs = group_of(path), listed(path).items()
    own = {f"{group}/{key}": value for key, value in pairs if (CONF / group / key).is_dir() and group}
    others = {key.removeprefix("override ").lstrip("/"): value for key, value in pairs if "/" in key}
    return bases(path), own | others


def keys_table(path: Path) -> list[str]:
    """Return the lines of a table of a config file's keys; none if it has no keys."""
    written = dict(comments(path))
    rows, first = [], package(path, group_of(path))
    for key, value, _ in described(path):
        full = f"{first}{key}"
        comment = written.get(full, "")
        if full.startswith("hydra.") or full == "hydra" or (value == "" and not comment):
            continue
        shown = f"{{py:obj}}`{value}`" if key.rpartition(".")[2] == "_target_" else code(value)
        rows.append(f"| `{full}` | {shown} | {markdown(comment)} |")
    return [":::{container} keys", "", "| key | value | |", "| --- | --- | --- |", *rows, ":::"] if rows else []


def comments(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the comment of each key that has one: of the files that it is based on, then of the file itself."""
    extended, chosen = defaults(path)
    if path.parent.name == "experiment":
        for root in CONF / "train.yaml", CONF / "trainer" / "default.yaml", CONF / "callbacks" / "default.yaml":
            yield from comments(root) if root.name != "train.yaml" else own_comments(root)
        for group, choice in chosen.items():
            if (CONF / group / f"{choice}.yaml").exists():
                yield from comments(CONF / group / f"{choice}.yaml")
    for base in extended:
        yield from comments(path.with_name(f"{base}.yaml"))
    yield from own_comments(path)


def own_comments(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the comment of each key of a config file that has one, with the key as typed."""
    first = package(path, group_of(path))
    yield from ((f"{first}{key}", comment) for key, _, comment in described(path) if comment)


def group_of(path: Path) -> str:
    """Return the group of a config file; "" for that of a command."""
    group = path.parent.relative_to(CONF).as_posix()
    return "" if group == "." else group


# Markdown


def code(value: str) -> str:
    """Return a value as code in a table."""
    return f"`{value.replace('|', chr(92) + '|')}`" if value else ""


def markdown(text: str) -> str:
    """Return a comment as Markdown on one line, with links to the documents that it names."""
    parts = " ".join(text.split()).split("`")
    escaped = [part if i % 2 else re.sub(r"([<*|])", r"\\\1", part) for i, part in enumerate(parts)]
    return re.sub(r"docs/(\w+)\.md", r"[\1](/\1.md)", "`".join(escaped))


# Links of pages that are also read on GitHub, where they lead to files of the project

COPIED = ("CONTRIBUTING", "CHANGELOG")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#|/)([^)#\s]+)(#[^)]*)?\)")


def with_site_links(text: str, folder: Path) -> str:
    """Return a page in a folder of the project with its links to files turned into links to the site's pages.

    A link to a file that is no page becomes its text.
    """

    def replace(link: re.Match[str]) -> str:
        target = Path(*(folder / link[2]).resolve().relative_to(CHECKOUT).parts)
        page = site_page(target)
        return f"[{link[1]}]({page}{link[3] if link[3] and '#' not in page else ''})" if page else link[1]

    blocks = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(block if block.startswith("```") else LINK.sub(replace, block) for block in blocks)


def site_page(path: Path) -> str:
    """Return the page that shows a file or folder of the project, from the site's root; "" if there is none."""
    top, *rest = path.parts
    if path.suffix == ".md":
        pages = {"README.md": "/index.md"} | {f"{name}.md": f"/reference/{name.lower()}.md" for name in COPIED}
        return pages.get(str(path)) or ("/" + "/".join(rest) if top == "docs" else "")
    if top == "conf":
        group, choice = (path.parent, path.stem) if path.suffix else (path, "")
        name = group.relative_to("conf").as_posix()
        if name == ".":
            return f"/reference/commands/{choice}.md" if choice else "/reference/config/index.md"
        return f"/reference/config/{page_of(name)}.md{f'#{choice}' if choice else ''}" if name in GROUPS else ""
    if top == "gan_lightning" and rest:
        module = ".".join(path.with_suffix("").parts[:2])
        return next((f"/reference/api/{name}.md" for name, modules in API.items() if module in modules), "")
    return ""

"""Sphinx's settings: ``make docs`` builds the site from these pages, docstrings and configs, without a network."""

import sys
import tomllib
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

from reference_pages import with_site_links, write  # noqa: E402

project = "gan-lightning"
author = "The gan-lightning developers"
copyright = author
version = release = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"gan-lightning {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
highlight_language = "text"
pygments_style = "friendly"
pygments_dark_style = "native"

# Pages that are complete by themselves: the game in two dimensions, and a generator that `make docs` exports
COMPLETE = [name for name in ("game2d.html", "digits.html") if (DOCS / name).exists()]
html_extra_path = COMPLETE


def link_to_the_site(app: Any, docname: str, source: list[str]) -> None:
    """Turn a page's links to files of the project, which GitHub shows, into links to the site's pages."""
    path = Path(app.env.doc2path(docname))
    if "reference" not in path.relative_to(DOCS).parts:
        source[0] = with_site_links(source[0], path.parent)


def setup(app: Any) -> None:
    """Write the generated pages, and connect the links."""
    write(DOCS / "reference")
    for name in COMPLETE:
        app.tags.add(Path(name).stem)
    app.connect("source-read", link_to_the_site)

"""How Sphinx builds the site: ``make docs``. What is generated, ``generate.py`` writes."""

import re
import shutil
import sys
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # for generate.py, and the commands in experiments

import generate  # noqa: E402

project = "trm"
author = "The trm authors"
version = release = installed("trm")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "play", *(f"generated/{name}" for name in generate.INCLUDED)]

html_theme = "furo"
html_title = "Tiny Recursive Models"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 100
python_display_short_literal_types = True
napoleon_use_ivar = True  # attributes of a dataclass are told once

nitpicky = True  # a type of ours that is linked nowhere is an error
nitpick_ignore_regex = [("py:.*", r"(?!trm\.).*")]  # others are told by name: the site is offline
highlight_language = "text"

generate.write(HERE / "generated")


def _add_the_page_that_solves(app, exception) -> None:
    """Copy the page that solves in the browser beside the others, as it is."""
    if exception is None and app.builder.format == "html" and generate.PLAY.is_file():
        shutil.copytree(generate.PLAY.parent, Path(app.outdir, "play"), dirs_exist_ok=True)


def _link_files(app, name, content) -> None:
    """Let links to Markdown outside of this folder, which is no page, open the file."""
    content[0] = re.sub(r"\]\((\.\./[^)#]+\.md)\)", r"](path:\1)", content[0])


def _keep_stars(app, what, name, thing, options, lines) -> None:
    """Keep a star that only begins a word, as in (batch, *shape), from beginning emphasis."""
    lines[:] = [re.sub(r"(?<![*`])\*(\w+)(?![\w*])", r"\\*\1", line) for line in lines]


def setup(app) -> None:
    """Hook into Sphinx."""
    app.connect("source-read", _link_files)
    app.connect("autodoc-process-docstring", _keep_stars)
    app.connect("build-finished", _add_the_page_that_solves)

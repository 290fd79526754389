"""How the book is built: ``python -m sphinx -W docs build/book``."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))  # the reference is made from the docstrings of this checkout

project = "deep-rnn"
author = "The deep-rnn authors"
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say shapes, which types do not
exclude_patterns = ["examples/*"]

html_theme = "furo"  # brings its own style and scripts: pages load nothing from elsewhere
html_title = "deep-rnn"
html_static_path = ["static"]
html_css_files = ["wide.css"]
html_show_search_summary = False  # which pages from plain files may not fetch
html_show_copyright = False
html_copy_source = html_show_sourcelink = False

"""The site: Sphinx's configuration. `./dev docs` builds it into .cache/docs.

In: the pages of this folder, the docstrings of the package, and pyproject.toml, which has the
addresses. Out: HTML. No page needs a network to be built.
"""

from __future__ import annotations

import sys
import tomllib
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "extensions"), str(HERE)]

generate_commands = import_module("generate_commands")

_project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]

project = "guestlist"
author = _project["authors"][0]["name"]
project_copyright = author
release = version = import_module("guestlist").__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.svgbob",
    # Of docs/extensions.
    "docstrings",
    "drawings",
    "from_code",
    "name_links",
    "repository_links",
]
exclude_patterns = ["extensions/**"]

# Markdown
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
highlight_language = "text"
suppress_warnings = ["misc.highlighting_failure"]  # Pygments' PromQL knows no recording rules

# Links to files that are no pages lead to the repository.
repository = _project["urls"]["Source"]

# The API, from docstrings. Their backticks are code; `name_links` makes links of public names.
default_role = "code"
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
autodoc_class_signature = "mixed"
autodoc_default_options = {
    "members": True,
    "undoc-members": True,
    # But those of Python's classes, and of bases that have a place of their own.
    "inherited-members": "BaseException,ByName,Change,Enum,GuestlistError,Mapping,OSError,Protocol,"
    "int,object,str,tuple",
}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_mock_imports = ["nova", "os_vif", "oslo_log"]
napoleon_numpy_docstring = False
napoleon_include_init_with_doc = False
nitpick_ignore = [("py:class", "UUID"), ("py:class", "guestlist.by_name.T")]
nitpick_ignore_regex = [
    # Names that are not guestlist's: the build asks no other site.
    (r"py:.*", r"(?!guestlist)[a-z_]+\..*"),
    (r"py:.*", r"[a-z]+"),
]

smartquotes = False  # two dashes begin an option

html_theme = "furo"
html_title = "guestlist"
html_static_path = ["_static"]
html_css_files = ["guestlist.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "source_repository": f"{repository}/",
    "source_branch": "main",
    "source_directory": "docs/",
}

# Pages of the commands, from their parser.
generate_commands.write(HERE / "reference" / "commands")

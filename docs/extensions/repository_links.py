"""Links of pages to files that are no pages: they lead to the repository.

In: a link to a file, relative to its page, as a reader of the repository follows it. Out: the
address of that file at the forge. A file that does not exist is a warning of the Markdown parser.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform


class RepositoryLinks(SphinxTransform):
    """Replace by links what Sphinx would copy into the site, or not find there."""

    default_priority = 300

    def apply(self, **_: Any) -> None:
        """Look at each link of one page."""
        site = Path(self.app.srcdir)
        page = site / self.env.doc2path(self.env.current_document.docname, base=False)
        for link in filter(_is_link, list(self.document.findall(nodes.Element))):
            target, _, anchor = link["reftarget"].partition("#")
            suffix = ".md" if link.get("refdomain") == "doc" else ""
            path = (page.parent / f"{target}{suffix}").resolve()
            if not path.exists() or not path.is_relative_to(site.parent):
                continue  # the Markdown parser warns
            kind = "tree" if path.is_dir() else "blob"
            address = f"{self.config.repository}/{kind}/main/{path.relative_to(site.parent)}"
            if anchor := anchor or link.get("reftargetid"):
                address += f"#{anchor}"
            link.replace_self(nodes.reference("", "", *link.children, refuri=address))


def _is_link(node: nodes.Element) -> bool:
    """Return whether a link leads to a file that is no page, or to a folder."""
    if isinstance(node, addnodes.download_reference):
        return True
    if not isinstance(node, addnodes.pending_xref) or node.get("reftype") != "myst":
        return False
    target: str = node["reftarget"]
    return Path(target).is_absolute() if node["refdomain"] == "doc" else "/" in target


def setup(app: Sphinx) -> dict[str, bool]:
    """Join Sphinx."""
    app.add_config_value("repository", "", "env", types=(str,))
    app.add_transform(RepositoryLinks)
    return {"parallel_read_safe": True}

"""Names in code font: those of the API become links to its pages.

In: the text of a code literal, in a page or a docstring: `Host.snapshot`, `guestlist.Host`, and in
the description of Host also `snapshot`. Out: a link where the API's pages have that name. Other
literals, and those in titles or links, stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

PACKAGES = "", "guestlist.", "guestlist.fleet."
"""What may be left out before a name: the module that a reader imports it from."""

_is_name = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*)(?:\(\))?").fullmatch


class NameLinks(SphinxPostTransform):
    """Turn names into links."""

    default_priority = 5

    def run(self, **_: Any) -> None:
        """Look at each literal of one page."""
        domain = self.env.domains.python_domain
        for literal in list(self.document.findall(nodes.literal)):
            if isinstance(literal.parent, nodes.reference | nodes.title):
                continue
            name = _is_name(literal.astext())
            places = (*_classes(literal), *PACKAGES)
            found = next(_targets(domain, name[1], places), None) if name else None
            if found is not None:
                page, anchor = found
                link = make_refnode(
                    self.app.builder, self.env.current_document.docname, page, anchor, []
                )
                literal.replace_self(link)
                link += literal


def _classes(literal: nodes.Node) -> Iterator[str]:
    """Yield the classes in whose description a literal is, each with a dot behind it."""
    here: nodes.Node | None = literal
    while here is not None:
        if isinstance(here, addnodes.desc) and here["objtype"] in ("class", "exception"):
            for signature in here.findall(addnodes.desc_signature):
                yield f"{signature['module']}.{signature['fullname']}."
                break
        here = here.parent


def _targets(domain: PythonDomain, name: str, places: Iterable[str]) -> Iterator[tuple[str, str]]:
    for place in places:
        entry = domain.objects.get(place + name)
        if entry is not None:
            yield entry.docname, entry.node_id


def setup(app: Sphinx) -> dict[str, bool]:
    """Join Sphinx."""
    app.add_post_transform(NameLinks)
    return {"parallel_read_safe": True}

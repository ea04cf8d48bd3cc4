"""Names that strangers may give their domains, to see what a terminal gets of them."""

from __future__ import annotations

import uuid

from lab.nodes import Domain

HOSTILE = {
    "bidirectional": ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
    "next line": ("a\u0085b\u2028c", r"a\x85b\u2028c"),
    "tab": ("a\tb", r"a\tb"),
    "zero width": ("a\u200bb\ufeffc", r"a\u200bb\ufeffc"),
    "C1": ("a\u009b31mb", r"a\x9b31mb"),
    "a backslash": (r"a\x85b", r"a\\x85b"),
    "markup": ("[red]a[bold] :smile:", "[red]a[bold] :smile:"),
    "CSV": ('=a,"b"', '=a,"b"'),
    "wide": ("名前-\N{GRINNING FACE}", "名前-\N{GRINNING FACE}"),
}
"""By what is hostile in it: the name, and how a table shows it."""


def hostile(name: str) -> Domain:
    """Return a domain of that name."""
    return Domain(name=name, uuid=uuid.uuid5(uuid.NAMESPACE_OID, name))

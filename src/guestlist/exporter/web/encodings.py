"""Which encoding of a body a client accepts: the header Accept-Encoding. Pure.

In: the value of the header. Out: gzip or not, or that neither is accepted.

Source: RFC 9110, sections 12.4.2 and 12.5.3.
"""

from __future__ import annotations

import re
from enum import Enum

_is_weight = re.compile(r"(0(\.\d{0,3})?|1(\.0{0,3})?)", re.ASCII).fullmatch


class Encoding(Enum):
    """How a body is sent."""

    IDENTITY = "identity"
    GZIP = "gzip"


def accepted(header: str | None) -> Encoding | None:
    """Return the encoding to send; None: the client accepts neither.

    gzip is chosen where the client accepts it at least as gladly as a body without an encoding.
    """
    weights: dict[str, float] = {}
    for item in (header or "").lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weights[name.removeprefix("x-")] = _weight(parameters)
    others = weights.get("*")
    gzip = weights.get("gzip", others or 0.0)
    identity = weights.get("identity", others)
    if gzip > 0 and gzip >= (identity if identity is not None else 0):
        return Encoding.GZIP
    return None if identity == 0 else Encoding.IDENTITY


def _weight(parameters: list[str]) -> float:
    """Return the quality of an item: 1 without one, 0 for one that cannot be read."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return float(value) if _is_weight(value := value.strip()) else 0.0
    return 1.0

"""The JSON schemas that guestlist promises, and whether a text keeps one.

In: the name of a schema, and text that the command printed. Out: what the text says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"

_UNITS = {"_mib": "MiB", "_kib": "KiB", "_bytes": "in bytes", "_seconds": "Seconds"}


def schema(name: str) -> dict[str, Any]:
    """Return docs/schemas/NAME.schema.json."""
    loaded: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    return loaded


def valid(name: str, text: str) -> Any:
    """Return what the JSON says.

    Raises:
        ValidationError: it is not as docs/schemas/NAME.schema.json describes it.
    """
    said = json.loads(text)
    schemas = [
        (path.name, DRAFT202012.create_resource(json.loads(path.read_text())))
        for path in SCHEMAS.iterdir()
    ]
    Draft202012Validator(
        schema(name),
        format_checker=Draft202012Validator.FORMAT_CHECKER,
        registry=Registry().with_resources(schemas),
    ).validate(said)
    return said


def described(properties: dict[str, Any]) -> bool:
    """Return whether each property has a description, with the unit that its name tells."""
    return all(
        all(word in each["description"] for unit, word in _UNITS.items() if name.endswith(unit))
        for name, each in properties.items()
    )

"""What the configuration file of the command says, as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Settings(NamedTuple):
    """What the file says; None and no hosts where it does not say."""

    hosts: Mapping[str, str] = {}
    """libvirt URIs, by alias."""

    name_template: str | None = None
    verify: bool | None = None
    columns: tuple[str, ...] | None = None
    """The columns of the table of `guestlist ls`, by name."""

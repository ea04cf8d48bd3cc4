"""The hosts that /probe may name, from a file of `--probe.targets`.

In: the file: names and URIs (`several.hosts_file`). Out: the exporter of a name, which is made when
it is asked for first, and kept. The file is read again when it has changed. Exporters of names that
have left the file, or that have another URI now, are closed. A request gives a name, never a URI:
libvirt runs a program for a URI such as qemu+ext:///system?command=/x.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from guestlist import threads
from guestlist.settings_file import SettingsFile
from guestlist.several import hosts_file
from guestlist.unpatched import threading


class Closable(Protocol):
    """An exporter, as far as this module uses it."""

    def close(self) -> None:
        """Close its connections."""


E = TypeVar("E", bound=Closable)


class NoSuchTarget(LookupError):
    """The file has no target of this name."""


class Targets(Generic[E]):
    """The exporters of the targets. Threads may share it.

    Args:
        path: the file.
        make: makes the exporter of a URI, started.

    Raises:
        BadSettings: the file cannot be used.
    """

    def __init__(self, path: Path, make: Callable[[str], E]) -> None:
        self._file = SettingsFile(path, hosts_file.uris_in)
        self._make = make
        self._made: dict[str, tuple[str, E]] = {}
        self._is_closed = False
        self._lock = threading.Lock()
        self._file.now()

    def get(self, name: str) -> E:
        """Return the exporter of the target of this name. The first time, it is made.

        Raises:
            NoSuchTarget: the file has no such name.
            BadSettings: the file cannot be used, as it is now.
            Exception: what the making of the exporter raised.
        """
        uris = self._file.now()
        with self._lock:
            self._close_left(uris)
            if name not in uris or self._is_closed:
                raise NoSuchTarget(name)
            if name not in self._made:
                self._made[name] = uris[name], self._make(uris[name])
            return self._made[name][1]

    def close(self) -> None:
        """Close all exporters, side by side. None is made afterwards."""
        with self._lock:
            self._is_closed = True
            self._close_left({})

    def _close_left(self, uris: Mapping[str, str]) -> None:
        """Close the exporters that are not in the file any more, each on a thread of its own."""
        for name, (uri, exporter) in list(self._made.items()):
            if uris.get(name) != uri:
                del self._made[name]
                threads.later(exporter.close, "guestlist-close")

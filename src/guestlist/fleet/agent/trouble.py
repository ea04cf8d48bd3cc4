"""What keeps the agent from publishing, and the log lines about it.

In: troubles, as they come. Out: one line in the log for each kind of trouble, and one for its end.
"""

from __future__ import annotations

import logging

from guestlist.errors import one_line
from guestlist.fleet.etcd.errors import EtcdError

log = logging.getLogger(__name__)


class Trouble:
    """What keeps one agent from publishing.

    Args:
        label: what log lines begin with.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._kind: str | None = None
        self.text: str | None = None
        """It, in one line; None: there is none."""

    def note(self, text: str, kind: str | None = None) -> None:
        """Note it; log it if its kind is new. None: the text is its kind."""
        kind = kind or text
        if kind != self._kind:
            log.warning("%s: %s", self._label, text)
        self.text, self._kind = text, kind

    def note_error(self, error: EtcdError) -> None:
        """Note what etcd said. A store that is silent fails in several ways in turn: one kind."""
        self.note(one_line(error), "silent" if isinstance(error, ConnectionError) else None)

    def end(self) -> None:
        """Note that there is none any more."""
        if self.text is not None:
            log.info("%s: publishes again", self._label)
        self.text = self._kind = None

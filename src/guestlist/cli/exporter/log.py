"""The exporter's log: a line for each record, as Prometheus's own programs write it.

In: records of guestlist's loggers. Out: on standard error, logfmt or JSON, with the time in UTC.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

import guestlist
from guestlist import process
from guestlist.cli.show import terminal

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
_WORDS = {number: word.upper() for word, number in _LEVELS.items()}

_is_plain = re.compile(r"[!#-<>-\[\]-~]+").fullmatch


class Records(logging.Handler):
    """Prints records."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._form = form

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record on one line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            "time": at.replace("+00:00", "Z"),
            "level": _WORDS.get(record.levelno, record.levelname),
            "msg": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            is_wanted = logging.getLogger(guestlist.__name__).isEnabledFor(logging.DEBUG)
            trace = logging.Formatter().formatException
            fields["err"] = trace(record.exc_info) if is_wanted else repr(record.exc_info[1])
        if self._form == "json":
            line = json.dumps(fields)
        else:
            line = " ".join(f"{name}={_word(value)}" for name, value in fields.items())
        terminal.explain(f"{line}\n")


def listen(level: str, form: str) -> None:
    """Print the log of guestlist from this level on; libvirt's own messages go nowhere."""
    log = logging.getLogger(guestlist.__name__)
    log.setLevel(_LEVELS[level])
    log.handlers[:] = [Records(form)]
    log.propagate = False
    process.quiet()


def _word(value: str) -> str:
    """Return the value as logfmt has it: between quotes, with escapes, where it needs them."""
    return value if _is_plain(value) else json.dumps(value)

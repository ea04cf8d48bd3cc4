"""Programs whose clocks are wrong: Debian's libfaketime, which `./dev` unpacks.

In: what to add to the clock. Out: the environment of such a program. Its monotonic clock is right.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parents[2] / ".cache" / "debian" / "libfaketime"


def faketime_available() -> str | None:
    """Return why no program can be shown another time here; None: it can."""
    if _library() is not None:
        return None
    return "the Debian package libfaketime is missing (./dev unpacks it)"


def off_by(clock: str) -> dict[str, str]:
    """Return the environment of a program whose clock is off by this: "+1h", "-1h"."""
    return {
        "LD_PRELOAD": str(_library()),
        "FAKETIME": clock,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _library() -> Path | None:
    return next(_FOLDER.glob("usr/lib/*/faketime/libfaketimeMT.so.1"), None)

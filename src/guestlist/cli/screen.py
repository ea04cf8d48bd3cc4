"""What stands at the bottom of the terminal and is drawn again in its place.

In: lines. Out: what makes a terminal show them where the last ones stood. Each drawing is one
write that leaves the terminal as it found it, cursor and all: whatever ends the process, nothing is
left to be restored. What was there before stays above.

Source: ECMA-48 (CUU, CUP, ED); xterm's control sequences (DECTCEM, DECAWM).
"""

from __future__ import annotations

from collections.abc import Sequence

from guestlist.cli import terminal

_HOLD, _RELEASE = "\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h"
"""Without the cursor, and with what is too long cut at the edge instead of wrapped."""


class Screen:
    """The lines that were drawn last."""

    def __init__(self) -> None:
        self._drawn: Sequence[str] = ()

    def draw(self, lines: Sequence[str]) -> None:
        """Put these lines there. At most as many as the terminal has."""
        if list(lines) != list(self._drawn):
            text = "\n".join(lines)
            terminal.write(f"{_HOLD}{self._to_start()}{text}{_RELEASE}")
            self._drawn = lines

    def clear(self) -> None:
        """Take them away, so that something can be said where they stood."""
        if self._drawn:
            terminal.write(self._to_start())
        self._drawn = ()

    def begin_anew(self) -> None:
        """Clear the whole screen: it has another size, and the lines are not where they were."""
        terminal.write("\x1b[H\x1b[2J")
        self._drawn = ()

    def leave(self) -> None:
        """Let the lines stand, and go on below them."""
        if self._drawn:
            terminal.write("\n")
        self._drawn = ()

    def _to_start(self) -> str:
        up = f"\x1b[{len(self._drawn) - 1}A" if len(self._drawn) > 1 else ""
        return f"\r{up}\x1b[J"

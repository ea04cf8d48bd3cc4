"""Lines at the bottom of the terminal that are drawn again in their place.

In: lines. Out: the sequences that make a terminal show them in the place of the last ones. Each
drawing is one write that leaves the terminal as it found it, the cursor included: however the
process ends, nothing needs to be restored. What stood on the screen before stays above.

Source: ECMA-48 (CUU, CUP, ED); xterm's control sequences (DECTCEM, DECAWM).
"""

from __future__ import annotations

from collections.abc import Sequence

from guestlist.cli.show import terminal

_HOLD, _RELEASE = "\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h"
"""Hide the cursor and cut long lines at the edge instead of wrapping them; and undo both."""


class Screen:
    """The lines that were drawn last, and how to replace them."""

    def __init__(self) -> None:
        self._drawn: Sequence[str] = ()

    def draw(self, lines: Sequence[str]) -> None:
        """Draw these lines, at most as many as the terminal has."""
        if list(lines) != list(self._drawn):
            text = "\n".join(lines)
            terminal.write(f"{_HOLD}{self._to_start()}{text}{_RELEASE}")
            self._drawn = lines

    def clear(self) -> None:
        """Remove the lines, so that a message can stand in their place."""
        if self._drawn:
            terminal.write(self._to_start())
        self._drawn = ()

    def clear_all(self) -> None:
        """Clear the whole screen: it has another size, and the lines may have moved."""
        terminal.write("\x1b[H\x1b[2J")
        self._drawn = ()

    def leave(self) -> None:
        """Keep the lines on the screen and continue below them."""
        if self._drawn:
            terminal.write("\n")
        self._drawn = ()

    def _to_start(self) -> str:
        up = f"\x1b[{len(self._drawn) - 1}A" if len(self._drawn) > 1 else ""
        return f"\r{up}\x1b[J"

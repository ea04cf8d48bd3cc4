"""What the scripts of the pictures share: the folder that they write to, and their options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "pictures"


def main(name: str, draw: Callable[[], str]) -> None:
    """Write the picture that `draw` returns, under its name."""
    parser = argparse.ArgumentParser(prog="./dev pictures", description=f"Draw {name}.")
    parser.add_argument("--output", type=Path, default=FOLDER, help="the folder (docs/pictures)")
    path: Path = parser.parse_args().output / name
    path.write_text(draw())
    print(path)

"""Prometheus's promtool: the referee of rules, and of the queries of dashboards.

In: files, or queries. Out: nothing, or the words in which promtool refuses them. Debian's package
prometheus has it. The package starts a server on all interfaces, so `./dev` does not install it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path


def promtool_available() -> str | None:
    """Return why promtool cannot be run here; None: it can."""
    return None if shutil.which("promtool") else "promtool is missing (Debian: prometheus)"


def promtool(*arguments: str | Path) -> str:
    """Run promtool; return why it refuses, and "" if it does not."""
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def refused(queries: Iterable[str], place: Path) -> str:
    """Return why Prometheus does not parse all of these queries, and "" if it does."""
    rules = [{"record": f"query:{number}", "expr": text} for number, text in enumerate(queries)]
    file = place / "queries.yml"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    return promtool("check", "rules", file)

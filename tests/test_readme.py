"""The lines for the command in README and docs/command.md do what these pages say, on a real host.

Their Python runs, too: see conftest.py. docs/tutorial.md is followed with its output:
test_tutorial.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lab.command import environment
from lab.needs import require

ROOT = Path(__file__).parents[1]
PAGES = {name: (ROOT / name).read_text() for name in ("README.md", "docs/command.md")}

ELSEWHERE = re.compile(r"--os-cloud|qemu\+ssh| --live|guestlist watch( -f json.*)?( +#|$)", re.M)
"""Lines that need another machine, and those that go on until someone ends them, which
test_cli_live.py and test_cli_watch.py run."""

LINES = sorted(
    {
        re.sub(r" +# .*", "", line)
        for text in PAGES.values()
        for line in re.findall(r"^\$ (guestlist .*)", text, re.M)
        if not ELSEWHERE.search(line)
    }
)


def test_the_pages_show_such_lines() -> None:
    assert len(LINES) > 10
    assert len(PAGES["README.md"].splitlines()) < 120


@pytest.mark.parametrize("line", LINES)
def test_a_line_does_what_its_page_says(three: str, tmp_path: Path, line: str) -> None:
    for program in ("virsh", "jq"):
        if program in line:
            require(None if shutil.which(program) else f"{program} is not installed")
    (tmp_path / "hosts.yml").write_text(f"node1: {three}\n")
    tools = f"{Path(sys.executable).parent}:{environment()['PATH']}"
    done = subprocess.run(
        ["sh", "-c", line],
        cwd=tmp_path,
        env=environment(PATH=tools, LIBVIRT_DEFAULT_URI=three),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or "select(" in line  # no domain is another launcher's

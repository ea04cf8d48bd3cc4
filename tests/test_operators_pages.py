"""docs/unprivileged.md and docs/remote.md: each block is run on a host of its own, in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from lab.machine import Machine, machine_available
from lab.names import ROOT
from lab.needs import require

_BLOCK = re.compile(r"^```(sh|console)\n(.*?)^```$", re.M | re.S)


class Step(NamedTuple):
    """A script of root's (`printed` is None), or a command of the user's and what it prints."""

    script: str
    printed: str | None


def steps(page: str) -> Iterator[Step]:
    """Yield what a page runs, in order."""
    for kind, text in _BLOCK.findall((ROOT / "docs" / page).read_text()):
        if kind == "sh":
            yield Step(text, None)
        else:
            for step in re.split(r"^\$ ", text, flags=re.M)[1:]:
                command, _, printed = step.partition("\n")
                yield Step(command, printed)


@pytest.fixture
def machine(needs_libvirtd, needs_qemu):
    require(machine_available())
    with Machine() as machine:
        yield machine


@pytest.mark.parametrize("page", ["unprivileged.md", "remote.md"])
def test_each_block_of_a_page_does_what_the_page_says(machine, page):
    told = list(steps(page))
    assert sum(step.printed is not None for step in told) > 4
    for step in told:
        if step.printed is None:
            machine.root(step.script)
        else:
            said = machine.user(step.script).stdout
            pattern = ".*".join(map(re.escape, step.printed.split("…")))
            assert re.fullmatch(pattern, said, re.S), f"{step.script}\n{said}"

"""eventlet outside of Nova: its green threads and guestlist's real threads in one process."""

from __future__ import annotations

import pytest
from lab.churn import populated
from lab.nodes import nova_instance
from lab.programs import lines_of, run

pytest.importorskip("eventlet")

QUIET = ["-W", "ignore"]  # eventlet warns that it is deprecated

FIRST = "import eventlet; eventlet.monkey_patch()\nimport guestlist\n"
IMPORTED_BEFORE = (
    "import guestlist\nfrom guestlist import Host, Inventory, ComputeDriver\n"
    "import eventlet; eventlet.monkey_patch()\n"
)

QUESTIONS = """
import sys
from eventlet import tpool
from guestlist import unpatched

aside = tpool.execute
assert unpatched.green_by() == "eventlet"
host = guestlist.Host(sys.argv[1])
print([host.snapshot().cost for _ in range(3)])
print([aside(lambda: host.snapshot().cost) for _ in range(3)])
live = guestlist.Inventory(host)
aside(lambda: live.wait_synced(30))
changes = live.changes()
waiting = eventlet.spawn(lambda: aside(lambda: changes.get(timeout=30)))
ticks = 0
while not waiting.dead:  # other green threads go on meanwhile
    ticks += 1
    if ticks == 10:
        aside(lambda: host.list_instance_domains()[0].suspend())
    eventlet.sleep(0.001)
print(waiting.wait().after.state.name, ticks >= 10)
aside(live.close)
aside(host.close)
"""


@pytest.mark.parametrize(
    "imports", [FIRST, IMPORTED_BEFORE], ids=["patched first", "imported first"]
)
def test_snapshots_and_a_live_view_beside_green_threads(three, imports):
    said = lines_of(imports + QUESTIONS, three, options=QUIET)
    assert said == ["[4, 1, 1]", "[1, 1, 1]", "PAUSED True"]


LATE = """
import os, sys, guestlist
host = guestlist.Host(sys.argv[1])
host.snapshot()
import eventlet
eventlet.monkey_patch()
try:
    host.snapshot()
except guestlist.ThreadsReplaced as error:
    print(str(error).partition(" replaced")[0], flush=True)
os._exit(0)
"""


def test_patching_after_the_first_question_is_a_named_error(daemon):
    with populated(daemon.uri(), [nova_instance(1)]):
        ended = run(LATE, daemon.uri(), options=QUIET)
    assert ended.stdout.splitlines() == ["eventlet"], ended.stderr

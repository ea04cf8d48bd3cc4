"""gevent: its green threads and guestlist's real threads in one process."""

from __future__ import annotations

import subprocess

import pytest
from lab.churn import populated
from lab.nodes import nova_instance
from lab.programs import LONG, lines_of, run, running

pytest.importorskip("gevent")

FIRST = "from gevent import monkey; monkey.patch_all()\nimport guestlist\n"
IMPORTED_BEFORE = (
    "import guestlist\nfrom guestlist import Host, Inventory, ComputeDriver\n"
    "from gevent import monkey; monkey.patch_all()\n"
)

QUESTIONS = """
import sys, gevent
from guestlist import unpatched

aside = gevent.get_hub().threadpool.apply
assert unpatched.green_by() == "gevent"
host = guestlist.Host(sys.argv[1])
print([host.snapshot().cost for _ in range(3)])
print([aside(lambda: host.snapshot().cost) for _ in range(3)])
print(len(aside(lambda: host.snapshot(statistics=["vcpu"], include_inactive=True))))

live = guestlist.Inventory(host)
aside(lambda: live.wait_synced(30))
changes = live.changes()
waiting = gevent.spawn(lambda: aside(lambda: changes.get(timeout=30)))
ticks = 0
while not waiting.ready():  # other greenlets go on meanwhile
    ticks += 1
    if ticks == 10:
        aside(lambda: host.list_instance_domains()[0].suspend())
    gevent.sleep(0.001)
print(waiting.get().after.state.name, ticks >= 10)
aside(live.close)
aside(host.close)
print(unpatched.threading.Lock.__module__, unpatched.threading.Thread.__module__)
"""


@pytest.mark.parametrize(
    "imports", [FIRST, IMPORTED_BEFORE], ids=["patched first", "imported first"]
)
def test_snapshots_and_a_live_view_beside_greenlets(three, imports):
    assert lines_of(imports + QUESTIONS, three) == [
        "[4, 1, 1]",
        "[1, 1, 1]",
        "3",
        "PAUSED True",
        "_thread threading",
    ]


def test_without_a_thread_of_its_own_a_question_blocks_all_and_is_answered(daemon):
    """The first question used to block the process for good."""
    with populated(daemon.uri(), [nova_instance(1)]):
        said = lines_of(
            FIRST + "import sys; print(len(guestlist.Host(sys.argv[1]).list_instance_domains()))",
            daemon.uri(),
        )
    assert said == ["1"]


HUNG = """
import sys, gevent
aside = gevent.get_hub().threadpool.apply
host = guestlist.Host(sys.argv[1], keepalive_interval=1, keepalive_count=1)
aside(host.snapshot)
print("ready", flush=True)
sys.stdin.readline()
ticks = 0
def tick():
    global ticks
    while True:
        gevent.sleep(0.01)
        ticks += 1
gevent.spawn(tick)
try:
    aside(host.snapshot)
except guestlist.ConnectionLost as error:
    print(type(error).__name__, ticks > 10, flush=True)
aside(host.close)
"""


def test_a_daemon_that_hangs_is_given_up_and_greenlets_go_on_meanwhile(rpc):
    with running(FIRST + HUNG, rpc.uri()) as process:
        rpc.stall()
        said, _ = process.communicate("\n", timeout=LONG)
    assert said.splitlines() == ["ConnectionLost True"]


LOGGING = """
import logging, sys, gevent

class Slow(logging.Handler):
    def emit(self, record):
        gevent.sleep(0.05)  # others go on, with the handler's lock held
        seen.append(record.getMessage())

seen = []
log = logging.getLogger("guestlist")
log.setLevel(logging.DEBUG)
log.addHandler(Slow())
log.propagate = False
guestlist.quiet()
aside = gevent.get_hub().threadpool.apply
stop = gevent.event.Event()
def chatter():
    while not stop.is_set():
        log.warning("a greenlet")
        gevent.sleep(0.01)
talking = [gevent.spawn(chatter) for _ in range(3)]
gevent.sleep(0)
def attempt(ask):
    try:
        ask()
    except guestlist.ConnectionFailed as error:
        assert "no answer" not in str(error), error
for _ in range(20):
    for ask in (lambda: guestlist.Host("nosuchdriver:///system").snapshot(),
                lambda: guestlist.Host(sys.argv[1]).snapshot()):
        aside(attempt, (ask,))
stop.set()
gevent.joinall(talking)
while sum("libvirt:" in each for each in seen) < 20:
    gevent.sleep(0.01)
print("all is written")
"""


def test_its_real_threads_log_while_a_greenlet_holds_loggings_lock(daemon):
    with populated(daemon.uri(), [nova_instance(1)]):
        said = lines_of(FIRST + "import gevent.event" + LOGGING, daemon.uri())
    assert said == ["all is written"]


LATER = """
import sys, gevent
from guestlist import logs

aside = gevent.get_hub().threadpool.apply
host = guestlist.Host(sys.argv[1])
aside(host.list_instance_domains)
before = set(logs.loggers())
aside(host.snapshot)
print("guestlist.details" in {each.name for each in set(logs.loggers()) - before})
print({type(each).__name__ for each in logs.loggers()})
"""


def test_what_is_imported_after_the_first_question_logs_likewise(three):
    assert lines_of(FIRST + LATER, three) == ["True", "{'_Relayed'}"]


PROGRAMS = """
import os, sys, gevent
from guestlist.records import SourceKind

aside = gevent.get_hub().threadpool.apply
driver = guestlist.ComputeDriver(guestlist.Host(sys.argv[1]))
image = guestlist.Source(SourceKind.FILE, sys.argv[2], "vdi")
for here in aside, lambda act: act():
    print(here(lambda: guestlist.Images().measure([image])[image].virtual_bytes))
    print("up" in here(driver.get_host_uptime))
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("no child is left")
"""


def test_what_needs_a_program_has_it_and_leaves_none(daemon, tmp_path):
    """gevent's subprocess does not work in real threads, and left a zombie each time."""
    image = tmp_path / "image.vdi"
    create = ["qemu-img", "create", "-q", "-f", "vdi", image, "4M"]
    subprocess.run(create, check=True)
    with populated(daemon.uri(), [nova_instance(1)]):
        said = lines_of(FIRST + PROGRAMS, daemon.uri(), str(image))
    assert said == [str(4 << 20), "True"] * 2 + ["no child is left"]


LATE = """
import sys, guestlist
host = guestlist.Host(sys.argv[1])
if sys.argv[2] == "asked":
    host.snapshot()
%s
for act in (host.snapshot, guestlist.Host(sys.argv[1]).list_instance_domains,
            lambda: guestlist.Inventory(sys.argv[1]).wait_synced()):
    try:
        print(act())
    except guestlist.ThreadsReplaced as error:
        print(str(error).partition(" replaced")[0])
import os; os._exit(0)
"""


@pytest.mark.parametrize("when", ["made", "asked"])
def test_patching_after_the_first_host_is_a_named_error(daemon, when):
    """Its conditions would become green with the module, and wait for ever."""
    with populated(daemon.uri(), [nova_instance(1)]):
        ended = run(LATE % "from gevent import monkey; monkey.patch_all()", daemon.uri(), when)
    assert ended.stdout.splitlines() == ["gevent"] * 3, ended.stderr

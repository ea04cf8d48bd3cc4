"""Event loops that a program gives libvirt: asyncio's, the default one, one that comes too late."""

from __future__ import annotations

import pytest
from lab.churn import populated
from lab.nodes import nova_instance
from lab.programs import LONG, lines_of, run, running


def said_by(program, *arguments, options=()):
    """Run a program; return its lines. libvirtaio may write about timers on standard error."""
    ended = run(program, *arguments, options=options)
    assert ended.returncode == 0, ended.stderr
    assert "guestlist" not in ended.stderr
    return ended.stdout.splitlines()


LIBVIRTAIO = """
import asyncio, sys, threading
import libvirtaio, guestlist

names = lambda: sorted(each.name for each in threading.enumerate() if "events" in each.name)

async def main():
    libvirtaio.virEventRegisterAsyncIOImpl()
    host = guestlist.Host(sys.argv[1])
    print([host.snapshot().cost for _ in range(3)])  # the loop does not turn meanwhile
    ask = lambda: host.snapshot().cost
    print([await asyncio.to_thread(ask) for _ in range(3)])
    print(await asyncio.gather(*(asyncio.to_thread(ask) for _ in range(8))))
    print(guestlist.use_running_event_loop(), names())
    with guestlist.Inventory(host) as live:
        await asyncio.to_thread(live.wait_synced, 30)
        (domain, *_) = await asyncio.to_thread(host.list_instance_domains)
        async with asyncio.timeout(60):
            changes = live.changes()
            for act in (domain.suspend, domain.resume) * 20:
                await asyncio.to_thread(act)
                print((await anext(changes)).after.state.name)
        print(live.statistics().stalls, live.statistics().connections)
        await asyncio.to_thread(live.close)
    await asyncio.to_thread(host.close)

asyncio.run(main())
"""


def test_libvirtaio_is_used_and_woken(three):
    """Each snapshot took 0.5 s or 1.0 s, read all XML again, and `close` took 10 s."""
    assert said_by(LIBVIRTAIO, three) == [
        "[4, 4, 4]",
        "[1, 1, 1]",
        str([1] * 8),
        "True []",
        *["PAUSED", "RUNNING"] * 20,
        "0 1",
    ]


def test_libvirtaio_in_asyncios_debug_mode_is_a_named_error(three):
    """libvirtaio loses events there: a view would be wrong, and no error would say so."""
    ended = run(LIBVIRTAIO, three, options=["-X", "dev"])
    assert "guestlist.errors.NotSupported: libvirtaio loses events" in ended.stderr


HUNG = """
import asyncio, sys
import libvirtaio, guestlist

async def main():
    libvirtaio.virEventRegisterAsyncIOImpl()
    host = guestlist.Host(sys.argv[1], keepalive_count=1)
    await asyncio.to_thread(host.snapshot)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    try:
        await asyncio.to_thread(host.snapshot)
    except guestlist.ConnectionLost:
        print("lost")

asyncio.run(main())
"""


def test_under_libvirtaio_a_daemon_that_hangs_is_given_up(rpc):
    """Keepalive began only when something else woke the loop."""
    with running(HUNG, rpc.uri()) as process:
        rpc.stall()
        said, _ = process.communicate("\n", timeout=LONG)
    assert said == "lost\n"


AFTERWARDS = """
import asyncio, sys
import libvirtaio, guestlist

host = guestlist.Host(sys.argv[1])

async def main():
    libvirtaio.virEventRegisterAsyncIOImpl()
    await asyncio.to_thread(host.snapshot)

asyncio.run(main())
print([host.snapshot().cost for _ in range(3)])
host.close()
"""


def test_after_asyncios_loop_was_closed_nothing_is_remembered_and_nothing_waits(three):
    assert said_by(AFTERWARDS, three) == ["[4, 4, 4]"]


LATECOMER = """
import asyncio, logging, sys
import libvirtaio, guestlist

logging.basicConfig(stream=sys.stdout, format="%(message)s")
host = guestlist.Host(sys.argv[1])
host.snapshot()

async def main():
    libvirtaio.virEventRegisterAsyncIOImpl()
    host.close()
    print(host.snapshot().cost, host.snapshot().cost)
    host.close()
    print(host.snapshot().cost)

asyncio.run(main())
"""


def test_libvirtaio_after_the_first_question_is_said_once_to_be_too_late(three):
    said = said_by(LATECOMER, three)
    assert len(said) == 3
    assert "libvirtaio was registered after guestlist's first question" in said[0]
    assert said[1:] == ["4 1", "4"]


DEFAULT = """
import sys, threading
import libvirt, guestlist

uri, how = sys.argv[1:]
turning = threading.Event()
heard_on = set()
wanted = threading.Semaphore(0)

def turn():
    turning.set()
    while True:
        libvirt.virEventRunDefaultImpl()

def hear(*_):
    heard_on.add(threading.current_thread().name)
    wanted.release()

libvirt.virEventRegisterDefaultImpl()
threading.Thread(target=turn, name="the program's", daemon=True).start()
turning.wait()
own = libvirt.open(uri)
own.domainEventRegisterAny(None, 0, hear, None)
if how == "asserted":
    assert guestlist.use_running_event_loop()
host = guestlist.Host(uri)
print([host.snapshot().cost for _ in range(3)])
with guestlist.Inventory(host) as live:
    live.wait_synced(30)
    (domain, *_) = own.listAllDomains()
    for _ in range(100):
        domain.suspend()
        domain.resume()
    for _ in range(200):
        wanted.acquire()
print(heard_on, [each.name for each in threading.enumerate() if "events" in each.name])
"""


@pytest.mark.parametrize("how", ["asserted", "found"])
def test_a_default_loop_that_the_program_turns_keeps_its_callbacks(three, how):
    """Half of them were called on a thread of guestlist's."""
    assert said_by(DEFAULT, three, how) == ["[4, 1, 1]", '{"the program\'s"} []']


ON_ITS_THREAD = """
import sys, threading
import libvirt, guestlist

libvirt.virEventRegisterDefaultImpl()
host = guestlist.Host(sys.argv[1])

def ask(timer, _):
    costs = [host.snapshot().cost for _ in range(2)]
    print(costs, "guestlist-libvirt-events" in [each.name for each in threading.enumerate()])
    libvirt.virEventRemoveTimeout(timer)

libvirt.virEventAddTimeout(0, ask, None)
libvirt.virEventRunDefaultImpl()
"""


def test_a_question_on_the_thread_that_turns_the_loop_does_not_wait_for_it(three):
    assert said_by(ON_ITS_THREAD, three) == ["[4, 4] False"]


NONE = """
import sys, threading, guestlist
print(guestlist.use_running_event_loop())
host = guestlist.Host(sys.argv[1])
print([host.snapshot().cost for _ in range(3)], guestlist.use_running_event_loop())
print([each.name for each in threading.enumerate() if "events" in each.name])
"""


def test_where_no_loop_turns_guestlist_turns_one(three):
    assert lines_of(NONE, three) == ["False", "[4, 1, 1] False", "['guestlist-libvirt-events']"]


ASYNCIO = """
import asyncio, sys, guestlist

async def main():
    with guestlist.Host(sys.argv[1]) as host:
        print([(await asyncio.to_thread(host.snapshot)).cost for _ in range(3)])
        print([host.snapshot().cost for _ in range(3)])  # works, and nothing else goes on meanwhile
        with guestlist.Inventory(host) as live:
            await asyncio.to_thread(live.wait_synced, 30)
            async with asyncio.timeout(60):
                changes = live.changes()
                host.list_instance_domains()[0].suspend()
                async for change in changes:
                    print(change.after.state.name)
                    break

asyncio.run(main())
"""


def test_asyncio_without_libvirtaio(three):
    assert lines_of(ASYNCIO, three) == ["[4, 1, 1]", "[1, 1, 1]", "PAUSED"]


PLAIN_THREADS = """
import sys, threading, guestlist
host = guestlist.Host(sys.argv[1])
live = guestlist.Inventory(host)
host.snapshot()
live.wait_synced(30)
said = set()
def ask():
    for _ in range(20):
        said.add((host.snapshot().cost, len(host.list_instance_domains()), len(live.snapshot())))
threads = [threading.Thread(target=ask) for _ in range(8)]
for each in threads:
    each.start()
for each in threads:
    each.join()
print(said)
live.close()
host.close()
"""


def test_plain_threads_share_a_host_and_a_live_view(three):
    assert lines_of(PLAIN_THREADS, three) == ["{(1, 3, 3)}"]


NOISE = """
import logging, sys, guestlist
logging.basicConfig(stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
logging.getLogger("guestlist").setLevel(logging.DEBUG)
if sys.argv[1] == "quiet":
    guestlist.quiet()
    guestlist.quiet()
try:
    guestlist.Host("nosuchdriver:///system").list_instance_domains()
except guestlist.ConnectionFailed as error:
    print(type(error).__name__)
guestlist.Host("test:///default").snapshot()
"""


def test_quiet_takes_libvirts_own_lines_off_standard_error():
    """Without `quiet` libvirt prints: a library must not silence a whole process."""
    assert "libvirt: " in run(NOISE, "loud").stderr
    said = lines_of(NOISE, "quiet")
    assert "ConnectionFailed" in said
    assert any(line.startswith("guestlist.process DEBUG libvirt: ") for line in said)


INTERRUPTED = """
import signal, sys
import guestlist
from guestlist import Host

guestlist.quiet()
signal.signal(signal.SIGALRM, signal.default_int_handler)
host = Host(sys.argv[1], keepalive_count=1)
host.snapshot()
print("ready", flush=True)
sys.stdin.readline()
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    host.list_instance_domains()
except BaseException as error:
    print(type(error).__name__, flush=True)
sys.stdin.readline()
host.close()
"""


def test_an_interrupt_within_an_error_that_is_not_printed_stays_one(three, own_daemon):
    """It came out as a SystemError: a Python handler ran within libvirt's call."""
    with running(INTERRUPTED, own_daemon.uri()) as program:
        own_daemon.stop()
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "KeyboardInterrupt\n"
        own_daemon.cont()
        program.communicate("\n", timeout=LONG)


CLOSED_BY_ANOTHER = """
import sys, threading
import libvirt
from guestlist import Host

host = Host(sys.argv[1])
host.snapshot()
entered, order = threading.Event(), []

def on_event(*_):
    entered.set()
    while host._connection.current is not None:  # until the other thread closes it
        pass
    order.append(f"answered {len(host.snapshot())}")

hand = libvirt.open(sys.argv[1])
hand.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, on_event, None)
domain = hand.lookupByName(sys.argv[2])
domain.suspend()
entered.wait()
host.close()
order.append("closed")
while len(order) < 2:
    pass
print(order)
domain.resume()
host.close()
"""


def test_closing_lets_a_callback_of_the_loop_ask_meanwhile(daemon):
    """Closing waits for the loop, and the loop waited for the closing: for five seconds."""
    domains = [nova_instance(n) for n in range(3)]
    with populated(daemon.uri(), domains):
        said = lines_of(CLOSED_BY_ANOTHER, daemon.uri(), domains[0].name)
    assert said == ["['answered 3', 'closed']"]

"""fork: libvirt does not survive it. A child gets an error at once; its parent is not harmed."""

from __future__ import annotations

import json

import pytest
from lab.churn import populated
from lab.nodes import nova_instance
from lab.programs import LONG, lines_of, run, running

from guestlist.images.storage_reads import StorageReads

WARNED = ["-W", "ignore::DeprecationWarning"]
"""Python 3.12 and later warn of any fork in a process with threads: it may deadlock."""

PRELUDE = """
import os, sys, threading, traceback
import guestlist

URI = sys.argv[1]

def said(act):
    try:
        return repr(act())
    except guestlist.GuestlistError as error:
        return type(error).__name__

def in_child(act, end=os._exit):
    if (pid := os.fork()) == 0:
        try:
            print(act(), flush=True)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        end(0)
    assert os.waitpid(pid, 0)[1] == 0
"""


ENTRIES = """
host = guestlist.Host(URI)
host.snapshot()
uuid = next(iter(host.snapshot()))
(domain, *_) = host.list_instance_domains()
live = guestlist.Inventory(URI)
live.wait_synced(30)
changes = live.changes()
import asyncio
own = guestlist.Host(URI)
own_view = guestlist.Inventory(URI)
for name, act in {
    "list": host.list_instance_domains,
    "snapshot": host.snapshot,
    "statistics": lambda: host.snapshot(statistics=["block"]),
    "instance": lambda: host.instance(uuid),
    "has_domain": lambda: host.has_domain(uuid),
    "discard_details": lambda: host.discard_details(uuid),
    "node": host.node,
    "is_local": lambda: host.is_local,
    "launcher": lambda: host.launcher(domain),
    "capabilities": host.capabilities,
    "driver": guestlist.ComputeDriver(host).get_num_instances,
    "driver over a view": guestlist.ComputeDriver(live).get_num_instances,
    "own": own.list_instance_domains,
    "new": lambda: guestlist.Host(URI).snapshot(),
    "view": live.snapshot,
    "changes": live.changes,
    "view's instance": lambda: live.instance(uuid),
    "view's node": live.node,
    "view's statistics": live.statistics,
    "unlisted": lambda: live.seconds_since_list,
    "stale_for": lambda: live.stale_for,
    "drifts": lambda: live.drifts,
    "start": live.start,
    "wait_synced": live.wait_synced,
    "resync": live.resync,
    "own view": own_view.wait_synced,
    "new view": lambda: guestlist.Inventory(URI).wait_synced(),
    "new view, entered": lambda: guestlist.Inventory(URI).__enter__(),
    "get": changes.get,
    "next": lambda: next(changes),
    "anext": lambda: asyncio.run(changes.__anext__()),
}.items():
    in_child(lambda: f"{name}: {said(act)}")
"""


def test_every_question_of_a_child_of_a_parent_that_asked_is_a_named_error(three):
    said = lines_of(PRELUDE + ENTRIES, three, options=WARNED)
    assert [line for line in said if not line.endswith(": ForkedProcess")] == []
    assert len(said) == 31


ENDINGS = """
host = guestlist.Host(URI)
host.snapshot(statistics=["vcpu"])
live = guestlist.Inventory(host)
live.wait_synced(30)
changes = live.changes()
(domain, *_) = host.list_instance_domains()

def leave():
    with changes, host, guestlist.Host(URI):
        pass
    live.__exit__()
    for each in (changes, live, host, guestlist.ComputeDriver(host)):
        getattr(each, "close", int)()
    return live.undisputed(next(iter(before)))

before = host.snapshot()
in_child(leave)
in_child(leave, end=sys.exit)
in_child(lambda: None, end=sys.exit)
print(len(host.snapshot()), host.snapshot().cost, live.stale_for, len(live.snapshot()))
"""


def test_a_child_that_closes_or_ends_leaves_its_parents_connections_alone(rpc, daemon):
    """It may call `close`, use `with`, or run finalizers as the interpreter ends."""
    with populated(daemon.uri(), [nova_instance(n) for n in range(3)]), rpc.counting() as calls:
        said = lines_of(PRELUDE + ENDINGS, rpc.uri(), options=WARNED)
    assert said == ["None", "None", "None", "3 1 0.0 3"]
    assert calls.count("CONNECT_CLOSE") <= 3, "the parent's own three"


BEFORE = """
host = guestlist.Host(URI)
view = guestlist.Inventory(URI)
def ask():
    view.wait_synced(30)
    with view, host:
        return len(view.snapshot()), [host.snapshot().cost for _ in range(3)]
in_child(ask)
in_child(ask)
def nested():
    in_child(ask)
    return ask()
in_child(nested)
def after():
    said = ask()
    in_child(lambda: said_by_grandchild())
    return said
def said_by_grandchild():
    return said(host.snapshot)
in_child(after)
print(ask())
"""


def test_a_child_of_a_parent_that_did_not_ask_works_and_so_do_its_siblings_and_the_parent(three):
    works = "(3, [4, 1, 1])"
    assert lines_of(PRELUDE + BEFORE, three, options=WARNED) == [
        *[works] * 4,
        "ForkedProcess",  # the child of a child that had asked
        works,
        works,
    ]


IN_MID_CALL = """
host = guestlist.Host(URI, keepalive_interval=0)
host.list_instance_domains()
print("ready", flush=True)
asking = threading.Thread(target=lambda: host.list_instance_domains(), daemon=True)
sys.stdin.readline()
asking.start()
sys.stdin.readline()
in_child(lambda: said(host.snapshot) + said(host.close) + said(lambda: host.__exit__()))
forking = threading.Thread(target=lambda: in_child(lambda: said(host.snapshot)))
forking.start()
forking.join()
os._exit(0)
"""


def test_locks_that_were_held_at_the_fork_hold_no_child_up(rpc):
    """The thread that holds them does not exist in the child, which would wait for ever."""
    with running(PRELUDE + IN_MID_CALL, rpc.uri()) as process:
        rpc.clear()
        rpc.delay(60, "CONNECT_LIST_ALL_DOMAINS")
        process.stdin.write("\n")
        process.stdin.flush()
        rpc.wait_called("CONNECT_LIST_ALL_DOMAINS")
        said, _ = process.communicate("\n", timeout=LONG)
    assert said.splitlines() == ["ForkedProcessNoneNone", "ForkedProcess"]


SOMEBODY_ELSES = """
import libvirt
libvirt.virEventRegisterDefaultImpl()
def turn():
    while True:
        libvirt.virEventRunDefaultImpl()
threading.Thread(target=turn, daemon=True).start()
connection = libvirt.open("test:///default")
host = guestlist.Host(URI)
in_child(lambda: [said(host.snapshot), said(host.list_instance_domains)])
print(len(host.snapshot()))
"""


def test_a_child_of_a_program_that_ran_libvirts_loop_itself_is_told_so_too(three):
    assert lines_of(PRELUDE + SOMEBODY_ELSES, three, options=WARNED) == [
        "['ForkedProcess', 'ForkedProcess']",
        "3",
    ]


PROCESSES = """
import concurrent.futures, multiprocessing, sys
import guestlist

def ask(uri):
    try:
        with guestlist.Host(uri) as host:
            return len(host.snapshot())
    except guestlist.GuestlistError as error:
        return type(error).__name__

def answer(uri, queue):
    queue.put(ask(uri))

def by_process(context, uri):
    queue = context.Queue()
    process = context.Process(target=answer, args=(uri, queue))
    process.start()
    said = queue.get()
    process.join()
    return said

def by_pool(context, uri):
    with context.Pool(2) as pool:
        return pool.map(ask, [uri] * 2)

def by_executor(context, uri):
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        return list(pool.map(ask, [uri] * 2))

def raised(uri):
    return len(guestlist.Host(uri).snapshot())

if __name__ == "__main__":
    uri, method, when = sys.argv[1:]
    if when == "after":
        ask(uri)
    context = multiprocessing.get_context(method)
    print([by_process(context, uri), by_pool(context, uri), by_executor(context, uri)])
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        print(repr(pool.submit(raised, uri).exception())[:13])
    print(ask(uri))
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(three, tmp_path, method, when):
    """Pools and executors are tested as well: they return the error to the parent."""
    program = tmp_path / "program.py"
    program.write_text(PROCESSES)
    said = lines_of(program, three, method, when, options=WARNED)
    if (method, when) == ("fork", "after"):
        refused = "ForkedProcess"
        assert said == [str([refused, [refused] * 2, [refused] * 2]), refused, "3"]
    else:
        assert said == ["[3, [3, 3], [3, 3]]", "None", "3"]


DAEMONIZED = """
host = guestlist.Host(URI)
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(writer, repr([host.snapshot().cost for _ in range(2)]).encode())
        host.close()
    os._exit(0)
os.close(writer)
print(os.read(reader, 100).decode())
"""


def test_a_daemon_that_forks_twice_before_its_first_question_works(three):
    assert lines_of(PRELUDE + DAEMONIZED, three, options=WARNED) == ["[4, 1]"]


SUBPROCESSES = """
import subprocess
host = guestlist.Host(URI)
host.snapshot()
print(subprocess.check_output(["echo", "plain"], text=True).strip())
print(subprocess.check_output(["echo", "hook"], text=True, preexec_fn=os.setsid).strip())
print(len(host.snapshot()), host.snapshot().cost)
"""


def test_other_programs_are_started_as_ever(three):
    assert lines_of(PRELUDE + SUBPROCESSES, three, options=WARNED) == ["plain", "hook", "3 1"]


APPLICATION = """
import json, os, guestlist

host = guestlist.Host(os.environ["LAB_URI"])
if os.environ["LAB_WHEN"] == "after":
    host.snapshot()  # as the application is loaded: in gunicorn's parent

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    try:
        said = len(host.snapshot())
    except guestlist.GuestlistError as error:
        said = type(error).__name__
    return [json.dumps(said).encode()]
"""

GUNICORN = """
import http.client, os, socket, subprocess, sys, tempfile
directory, uri, when = sys.argv[1:]
path = os.path.join(directory, "socket")

class Client(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)

with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(path)
    listener.listen()
    os.set_inheritable(listener.fileno(), True)
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--chdir", directory,
         "--worker-tmp-dir", directory, "--no-control-socket", "--log-level", "error",
         "--bind", f"fd://{listener.fileno()}", "application"],
        env={**os.environ, "LAB_URI": uri, "LAB_WHEN": when}, pass_fds=[listener.fileno()],
    )
    try:
        for _ in range(4):
            client = Client("localhost")
            client.request("GET", "/")
            print(client.getresponse().read().decode())
            client.close()
    finally:
        server.terminate()
        print(server.wait())
"""


@pytest.mark.parametrize(("when", "said"), [("before", 3), ("after", "ForkedProcess")])
def test_gunicorn_with_preload(three, tmp_path, when, said):
    pytest.importorskip("gunicorn")
    (tmp_path / "application.py").write_text(APPLICATION)
    ended = run(GUNICORN, str(tmp_path), three, when)
    assert ended.stdout.splitlines() == [json.dumps(said)] * 4 + ["0"], ended.stderr


PREFORK = """
import sys
import billiard, guestlist
from billiard.pool import Pool

uri, when = sys.argv[1:]
host = guestlist.Host(uri)

def ask(_):
    try:
        return len(host.snapshot())
    except guestlist.GuestlistError as error:
        return type(error).__name__

if when == "after":
    ask(0)
pool = Pool(2)
print(pool.map(ask, range(4)))
pool.close()
pool.join()
"""


@pytest.mark.parametrize(("when", "said"), [("before", 3), ("after", "ForkedProcess")])
def test_celerys_prefork_pool(three, when, said):
    """Celery forks its workers with billiard."""
    pytest.importorskip("billiard")
    assert lines_of(PREFORK, three, when, options=WARNED) == [str([said] * 4)]


BEFORE_IT_IS_ASKED = """
from guestlist import opening
gate, is_open = threading.Event(), threading.Event()
start = opening.threads.start

def later(*what):
    gate.set()
    is_open.wait()
    start(*what)

opening.threads.start = later
host = guestlist.Host(URI)
asking = threading.Thread(target=host.snapshot)
asking.start()
gate.wait()
in_child(lambda: said(host.snapshot))
in_child(lambda: said(guestlist.Host(URI).snapshot))
is_open.set()
asking.join()
host.close()
"""


def test_a_fork_while_the_first_question_begins(three):
    """The child waited for ever for a thread that exists only in its parent."""
    said = lines_of(PRELUDE + BEFORE_IT_IS_ASKED, three, options=WARNED)
    assert said == ["ForkedProcess", "ForkedProcess"]


def test_a_child_waits_for_no_look_at_an_image_that_its_parent_was_at():
    reads = StorageReads(str)
    reads._lock.acquire()  # as if another thread held it at the fork
    reads._process = 0
    assert reads.each(["one"], lambda item, _: item.upper(), 10) == ({"one": "ONE"}, frozenset())

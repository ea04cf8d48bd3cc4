"""`./dev demo fleet`: a fleet of four hosts; a guest migrates, an agent is killed, an audit looks.

Each host is a private libvirtd with an agent of its own. Two of them run real QEMU guests, one of
which migrates while the fleet is listed again and again; the other two are libvirt's test driver.
The etcd speaks TLS, and each agent may write the keys of its own host only. All of it needs no
privileges, listens on loopback, and is gone when the demo ends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo.showing import environment, run, say, show_command, show_until
from lab.daemon import Daemon, daemon_available
from lab.etcd import RELEASES, Etcd, etcd_available, etcd_version
from lab.migration import Migration, migrating, two_hosts
from lab.nodes import Domain, node, nova_instance
from lab.qemu import guests, qemu_available
from lab.waiting import wait_until

from guestlist.cli.exits import Exit
from guestlist.fleet import Fleet
from guestlist.fleet.etcd.endpoints import Tls

ROOT, READER = "root", "viewer"
"""The users of the etcd who are no agents, as their certificates name them."""

TTL = 5
"""Seconds of an agent's lease: shorter than an operator would choose, for a short demo."""

STAY = {"node1": nova_instance(1, paused=True), "node2": nova_instance(2, paused=True)}
MOVES = nova_instance(3)
SIMULATED = {
    "node3": [nova_instance(31), nova_instance(32, paused=True), nova_instance(33, active=False)],
    "node4": [nova_instance(41), nova_instance(42)],
}
KILLED = "node3"


def main() -> int:
    """Show all parts and return the exit code."""
    _options()
    release = _release()
    libvirt.registerErrorHandler(lambda *_: None, None)
    with contextlib.ExitStack() as stack:
        directory = tempfile.TemporaryDirectory(prefix="gl-", dir="/tmp")
        shell = Shell(Path(stack.enter_context(directory)), {})
        source, target = stack.enter_context(two_hosts())
        uris = dict(zip(STAY, (source.qemu_uri, target.qemu_uri), strict=True))
        for name, domains in SIMULATED.items():
            uris[name] = stack.enter_context(Daemon()).uri(node(domains))
        for name, guest in STAY.items():
            stack.enter_context(guests(uris[name], [guest]))
        show_without_engine(shell, uris)
        store = stack.enter_context(Store(release))
        show_setup(shell._replace(variables=store.variables(ROOT)), store, uris)
        shell = shell._replace(variables=store.variables(READER))
        agents = {name: Agent(store, name, uri) for name, uri in uris.items()}
        for each in agents.values():
            stack.enter_context(each)
        fleet = stack.enter_context(store.fleet())
        wait_until(lambda: len(fleet.hosts()) == len(uris) and fleet.snapshot().complete)
        show_engine(shell)
        with shell.watching() as watch:
            show_change(watch, uris)
            with migrating(source, target, MOVES) as migration:
                show_migration(shell, watch, fleet, migration)
                show_killed(shell, watch, agents[KILLED])
                show_audit(shell)
    return 0


def show_without_engine(shell: Shell, uris: dict[str, str]) -> None:
    """Ask the hosts themselves."""
    lines = "".join(f"{name}: {uri}\n" for name, uri in uris.items())
    (shell.directory / "hosts.yml").write_text(lines)
    say(
        "Four hosts, each a private libvirtd: node1 and node2 run QEMU, node3 and node4 are "
        "libvirt's test driver. Without any engine the hosts themselves are asked, all at the "
        "same time:"
    )
    shell.show("guestlist fleet ls --inactive --hosts hosts.yml")


def show_setup(shell: Shell, store: Store, hosts: Iterable[str]) -> None:
    """Make the users of the etcd, for which it must have no hole, or --insecure be given."""
    say(
        f"Now an etcd ({store.version}) with TLS. Each host gets a user, known by its certificate, "
        "that may use the keys of this host and no others; a reader gets one, too. First the etcd "
        "is tried: does it keep a user to these keys?"
    )
    _show_variables(shell)
    command = f"guestlist fleet setup {' '.join(hosts)} --reader {READER}"
    if shell.show(command, Exit.HOLES) == Exit.HOLES:
        say("Only a demo goes on in spite of that:")
        shell.show(f"{command} --insecure 2>&1 | tail -n 3")


def show_engine(shell: Shell) -> None:
    """Ask the etcd, to which the agents publish."""
    say("Each host has an agent, which publishes its domains. A reader asks the etcd, and no host:")
    _show_variables(shell)
    shell.show("guestlist fleet hosts")


def _show_variables(shell: Shell) -> None:
    print("$ export " + " ".join(f"{name}=…" for name in shell.variables))


def show_change(watch: subprocess.Popen[str], uris: dict[str, str]) -> None:
    """Resume the guests of QEMU, and show that readers learn it."""
    say("Its guests of QEMU are paused. They are resumed:")
    for host, guest in STAY.items():
        with contextlib.closing(libvirt.open(uris[host])) as connection:
            connection.lookupByUUID(guest.uuid.bytes).resume()
        show_until(watch, "paused -> running")


def show_migration(
    shell: Shell, watch: subprocess.Popen[str], fleet: Fleet, migration: Migration
) -> None:
    """Show a guest that migrates, in the news and in every list."""
    say(
        f"{MOVES.name} was started on node1, and migrates to node2: a real live migration of a "
        "running QEMU guest. It is one guest all the time:"
    )
    wait_until(lambda: MOVES.uuid in fleet.snapshot())
    with Lists(fleet) as lists:
        show_until(watch, "-> migrating")
        shell.show("guestlist fleet ls --on 'node[12]'")
        migration.complete()
        if migration.error is not None:
            raise SystemExit(f"demo: the migration failed: {migration.error}")
        show_until(watch, "handover -> resident")
    say(f"Meanwhile the whole fleet was listed again and again. {lists.in_words()}")
    shell.show("guestlist fleet ls --on 'node[12]'")


def show_killed(shell: Shell, watch: subprocess.Popen[str], agent: Agent) -> None:
    """Show what readers see of a host whose agent is killed, and comes back."""
    say(
        f"The agent of {agent.host} is killed. Its lease ends after {TTL} seconds; the guests of "
        f"{agent.host} stay in the list, and no list is called complete:"
    )
    agent.kill()
    show_until(watch, f"{agent.host}  stale")
    for _ in SIMULATED[agent.host]:
        show_until(watch, "-> unknown")
    shell.show(f"guestlist fleet ls --on '{agent.host}'", Exit.PARTIAL)
    shell.show("guestlist fleet hosts", Exit.PARTIAL)
    say("It is started again:")
    agent.start()
    show_until(watch, f"{agent.host}  back in step")


def show_audit(shell: Shell) -> None:
    """Show an audit against what Nova believes."""
    wrong = SIMULATED["node4"][0]
    servers = [_server(each, "node1") for each in (STAY["node1"], MOVES)]
    servers += [_server(STAY["node2"], "node2")]
    for host, domains in SIMULATED.items():
        for each in domains:
            status = "PAUSED" if each.paused else "ACTIVE" if each.active else "SHUTOFF"
            servers.append(_server(each, host, "SHUTOFF" if each is wrong else status))
    (shell.directory / "servers.json").write_text(json.dumps(servers))
    say(
        f"At last an audit. The file of servers says what Nova believes: {MOVES.name} still on "
        f"node1, and {wrong.name} shut off:"
    )
    shell.show("guestlist fleet audit --servers servers.json", Exit.FINDINGS)


class Shell(NamedTuple):
    """Where the commands of the demo run: a directory, and the variables that name the etcd."""

    directory: Path
    variables: dict[str, str]

    def show(self, command: str, *may_be: Exit) -> int:
        """Print a command and what it prints; return its status: 0, or one of `may_be`."""
        return show_command(command, self.variables, directory=self.directory, may_be=may_be)

    @contextlib.contextmanager
    def watching(self) -> Iterator[subprocess.Popen[str]]:
        """Run `guestlist fleet watch` beside the block, which begins when it has listed."""
        print("$ guestlist fleet watch &", flush=True)
        with subprocess.Popen(
            ["guestlist", "fleet", "watch"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.directory,
            env=environment(NO_COLOR="1", **self.variables),
        ) as process:
            try:
                show_until(process, "watching")
                yield process
            finally:
                process.terminate()


class Store:
    """An etcd with TLS, whose users are known by their certificates."""

    def __init__(self, release: str) -> None:
        self.version = ".".join(map(str, etcd_version(release)))
        compaction = ("--auto-compaction-mode=periodic", "--auto-compaction-retention=10m")
        self._etcd = Etcd(release, tls=True, options=compaction)

    def __enter__(self) -> Self:
        self._etcd.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._etcd.__exit__()

    def variables(self, user: str) -> dict[str, str]:
        """Return the variables that name the etcd and this user, as for etcdctl."""
        pki = self._etcd.certificate(user)
        return {
            "ETCDCTL_ENDPOINTS": ",".join(self._etcd.endpoints),
            "ETCDCTL_CACERT": str(pki / "cacert.pem"),
            "ETCDCTL_CERT": str(pki / "clientcert.pem"),
            "ETCDCTL_KEY": str(pki / "clientkey.pem"),
        }

    def fleet(self) -> Fleet:
        """Return the fleet in it."""
        pki = self._etcd.certificate(READER)
        tls = Tls(pki / "cacert.pem", pki / "clientcert.pem", pki / "clientkey.pem")
        return Fleet(self._etcd.endpoints, tls=tls)


class Agent:
    """`guestlist agent` of one host, as a process. A context manager that starts and ends it."""

    def __init__(self, store: Store, host: str, uri: str) -> None:
        self.host = host
        self._command = ["guestlist", "agent", "--host", host, "-c", uri, "--ttl", str(TTL)]
        self._environment = environment(**store.variables(host))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()

    def start(self) -> None:
        """Start it, and return at once."""
        self._process = subprocess.Popen(
            self._command, env=self._environment, stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        """Kill it at once, as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()


class Lists:
    """The whole fleet, listed again and again while the block runs: how the guest stood in each."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._list, name="lists")
        self._found: Counter[str] = Counter()
        self._complete = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def in_words(self) -> str:
        """Return how the guest stood in these lists; one without it ends the demo."""
        if sum(self._found.values()) != self._complete or not self._complete:
            raise SystemExit(f"demo: wrong: {self._found} in {self._complete} complete lists")
        found = ", ".join(f"{count} times {how}" for how, count in self._found.items())
        return f"{self._complete} lists were complete, and the guest was in each, once: {found}."

    def _list(self) -> None:
        while not self._is_over.is_set():
            snapshot = self._fleet.snapshot()
            if snapshot.complete:
                self._complete += 1
                if (row := snapshot.get(MOVES.uuid)) is not None:
                    self._found[f"{row.standing} on {row.host}"] += 1


def _server(domain: Domain, host: str, status: str = "ACTIVE") -> dict[str, object]:
    """Return a server as `openstack server list --long -f json` has it."""
    return {
        "ID": str(domain.uuid),
        "Name": f"server of {domain.name}",
        "Status": status,
        "Task State": None,
        "Power State": {"ACTIVE": 1, "PAUSED": 3, "SHUTOFF": 4}[status],
        "Host": host,
    }


def _release() -> str:
    """Return the release whose etcd is used: the newest that is here."""
    found = [each for each in RELEASES if etcd_available(each) is None]
    if not found:
        raise SystemExit(f"demo: {etcd_available(RELEASES[-1])}")
    return found[-1]


def _options() -> None:
    parser = argparse.ArgumentParser(
        prog="./dev demo fleet",
        description="List a fleet of four hosts while a guest migrates and an agent is killed.",
    )
    parser.parse_args()
    if why := daemon_available() or qemu_available():
        raise SystemExit(f"demo: {why}")


if __name__ == "__main__":
    run(main)

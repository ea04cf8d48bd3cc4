"""Which of the hosts that were looked at Nova means by a name. Pure.

In: looks at hosts, and the servers of Nova. Out: for a server its host (`HostLook.host`). Nova
calls a host by the name of the compute service (`host`) and by that of its hypervisor
(`hypervisor_hostname`), which is libvirt's own hostname. One of them may be a short form of the
other: "node1" of "node1.north.example", and not "node1.south.example".

A name that two hosts have names neither. The name of a host, or its URI, is most likely wrong

- if the name is nowhere in Nova, and Nova places a guest of it on a host that was not looked at;
- if Nova has servers there, and the host has none of them, but active guests of other hosts, or,
  of two servers or more, no guest of Nova's at all.

Its guests are then not judged by their place, nor is what it lacks certain, and the audit says so.

Source: nova/virt/libvirt/host.py (`Host.get_hostname`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from uuid import UUID

from guestlist.audit import expected
from guestlist.audit.rows import HostLook, Migration, Server
from guestlist.errors import short


class HostNames:
    """The hosts of one round by the names that Nova has for them.

    Args:
        looks: the looks at the hosts.
        servers: the servers of Nova.
        steady: those of them that did not change while the hosts were asked. What the others say
            about a name may have come true only after the look at its host.

    `problems` names, each in a line, the hosts that Nova's names do not reach. `not_asked` are
    Nova's names of hosts that have servers and were not looked at.
    """

    def __init__(
        self,
        looks: Sequence[HostLook],
        servers: Mapping[UUID, Server],
        steady: Mapping[UUID, Server],
    ) -> None:
        self._looks = looks
        self._full = {look.host: [_full(name) for name in look.names] for look in looks}
        self._by_name, shared = _by_name(looks, _full)
        by_short, _ = _by_name(looks, _short)
        clear = _clear_short_names(servers.values())
        self._by_short = {name: host for name, host in by_short.items() if name in clear}
        self.problems: tuple[str, ...] = tuple(
            f"{len(hosts)} hosts have the name {short(name)}: {', '.join(map(short, hosts))}; give "
            "each the name that Nova has for it, in a file of hosts (--hosts)"
            for name, hosts in shared.items()
        )
        self._unnamed = frozenset(self._find_unnamed(servers, steady))
        elsewhere = (each for each in servers.values() if self.home(each) is None)
        named = (each.hypervisor_hostname or each.host for each in elsewhere)
        self.not_asked: tuple[str, ...] = tuple(dict.fromkeys(filter(None, named)))

    def home(self, server: Server) -> str | None:
        """Return the host where Nova has the server; None if it was not looked at."""
        return self._named(server.hypervisor_hostname) or self._named(server.host)

    def can_place(self, host: str) -> bool:
        """Return whether the host is the one that Nova knows by its name, as far as guests tell."""
        return host not in self._unnamed

    def is_source(self, host: str, migration: Migration) -> bool:
        """Return whether the migration leads away from this host."""
        return host in (self._named(migration.source_node), self._named(migration.source))

    def is_dest(self, host: str, migration: Migration) -> bool:
        """Return whether the migration leads to this host."""
        return host in (self._named(migration.dest_node), self._named(migration.dest))

    def _named(self, name: str | None) -> str | None:
        if not name:
            return None
        full = _full(name)
        if host := self._by_name.get(full):
            return host
        host = self._by_short.get(_short(name))
        if host is None or not any(_is_short_form(full, each) for each in self._full[host]):
            return None
        return host

    def _find_unnamed(
        self, servers: Mapping[UUID, Server], steady: Mapping[UUID, Server]
    ) -> Iterable[str]:
        """Yield the hosts whose name, or whose URI, is most likely wrong."""
        homes = Counter(
            self.home(each)
            for each in steady.values()
            if expected.is_on_a_host(each) and not expected.at_work(each)
        )
        named = {self.home(each) for each in servers.values()}
        for look in self._looks:
            if look.domains is None:
                continue
            known = [(one, steady[one.uuid]) for one in look.domains if one.uuid in steady]
            placed = [(one, each) for one, each in known if each.hypervisor_hostname or each.host]
            theirs = [self.home(each) for _, each in placed]
            if look.host not in named:
                is_wrong = None in theirs
            elif any(one.active for one, _ in placed):
                is_wrong = homes[look.host] > 0 and look.host not in theirs
            else:
                has_any = any(one.ours or one.uuid in servers for one in look.domains)
                is_wrong = homes[look.host] > 1 and not has_any
            if is_wrong:
                self.problems += (self._problem(look, [each for _, each in placed]),)
                yield look.host

    def _problem(self, look: HostLook, placed: Iterable[Server]) -> str:
        """Return the line about a host whose name, or whose URI, is most likely wrong."""
        elsewhere = Counter(each.hypervisor_hostname or each.host or "" for each in placed)
        theirs = ", ".join(short(name) for name, _ in elsewhere.most_common(3))
        mine = " or ".join(map(short, look.names)) or "no name"
        has = (
            f"Nova has the guests of this host on {theirs}" if theirs else "it has no guest at all"
        )
        return (
            f"{short(look.host)} is known as {mine}, and has none of the servers that Nova has on "
            f"a host of that name: {has}; correct its URI, or give Nova's name for the host in a "
            "file of hosts (--hosts)"
        )


def _full(name: str) -> str:
    return name.rstrip(".").casefold()


def _short(name: str) -> str:
    return _full(name).partition(".")[0]


def _is_short_form(one: str, other: str) -> bool:
    """Return whether one of two names is the other, or the beginning of its labels."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _by_name(
    looks: Iterable[HostLook], form: Callable[[str], str]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the host of each name that one host has, and the hosts of each name of several."""
    having: dict[str, dict[str, None]] = defaultdict(dict)
    for look in looks:
        for name in look.names:
            having[form(name)][look.host] = None
    one = {name: host for name, (host, *others) in having.items() if not others}
    return one, {name: list(those) for name, those in having.items() if len(those) > 1}


def _clear_short_names(servers: Iterable[Server]) -> set[str]:
    """Return the short names that Nova has for one host only."""
    full: dict[str, set[str]] = defaultdict(set)
    for each in servers:
        for name in (each.hypervisor_hostname, each.host):
            if name:
                full[_short(name)].add(_full(name) if "." in name else "")
    return {name for name, those in full.items() if len(those - {""}) <= 1}

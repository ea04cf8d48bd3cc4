"""Which of the hosts that were looked at Nova means by a name. Pure.

In: looks at hosts, and the servers of Nova. Out: for a server its host (`HostLook.host`). Nova
calls a host by the name of the compute service (`host`) and by that of its hypervisor
(`hypervisor_hostname`), which is libvirt's own hostname. One of them may be a short form of the
other.

A name that two hosts have names neither. A host that is named nowhere in Nova, while Nova places
its guests on a host that was not looked at, is most likely that host under another name: its guests
are not judged by their place, and the audit says so.

Source: nova/virt/libvirt/host.py (`Host.get_hostname`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from uuid import UUID

from guestlist.audit.rows import HostLook, Migration, Server
from guestlist.errors import short


class HostNames:
    """The hosts of one round by the names that Nova has for them.

    `problems` names, each in a line, the hosts that Nova's names do not reach. `not_asked` are
    Nova's names of hosts that have servers and were not looked at.
    """

    def __init__(self, looks: Sequence[HostLook], servers: Mapping[UUID, Server]) -> None:
        self._looks = looks
        self._by_name, shared = _by_name(looks, _full)
        by_short, _ = _by_name(looks, _short)
        clear = _clear_short_names(servers.values())
        self._by_short = {name: host for name, host in by_short.items() if name in clear}
        self.problems: tuple[str, ...] = tuple(
            f"{len(hosts)} hosts have the name {short(name)}: {', '.join(map(short, hosts))}; give "
            "each the name that Nova has for it, in a file of hosts (--hosts)"
            for name, hosts in shared.items()
        )
        self._unnamed = frozenset(self._find_unnamed(servers))
        elsewhere = (each for each in servers.values() if self.home(each) is None)
        named = (each.hypervisor_hostname or each.host for each in elsewhere)
        self.not_asked: tuple[str, ...] = tuple(dict.fromkeys(filter(None, named)))

    def home(self, server: Server) -> str | None:
        """Return the host where Nova has the server; None if it was not looked at."""
        return self._named(server.hypervisor_hostname) or self._named(server.host)

    def can_place(self, host: str) -> bool:
        """Return whether Nova's names for this host are known, so that its guests can be placed."""
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
        return self._by_name.get(_full(name)) or self._by_short.get(_short(name))

    def _find_unnamed(self, servers: Mapping[UUID, Server]) -> Iterable[str]:
        """Yield the hosts whose guests Nova has on hosts that were not looked at, all of them."""
        named = {self.home(each) for each in servers.values()}
        for look in self._looks:
            if look.host in named:
                continue
            known = [servers[one.uuid] for one in look.domains or () if one.uuid in servers]
            placed = [each for each in known if each.hypervisor_hostname or each.host]
            if not placed or any(self.home(each) for each in placed):
                continue
            elsewhere = Counter(each.hypervisor_hostname or each.host or "" for each in placed)
            theirs = ", ".join(short(name) for name, _ in elsewhere.most_common(3))
            mine = " or ".join(map(short, look.names)) or "no name"
            self.problems += (
                f"{short(look.host)} is known as {mine}, and Nova has no server on a host of that "
                f"name: it has the guests of this host on {theirs}; give Nova's name for the host "
                "in a file of hosts (--hosts)",
            )
            yield look.host


def _full(name: str) -> str:
    return name.rstrip(".").casefold()


def _short(name: str) -> str:
    return _full(name).partition(".")[0]


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

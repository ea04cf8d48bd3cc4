"""A live Nova: all its servers, or some of them by id, asked through openstacksdk.

In: the name of a cloud. Out: `NovaLook`s, or one of the `NovaFailure`s. Only asks.

**Cells that are down.** From microversion 2.69 on Nova lists the servers of such a cell without
details, but only if a request neither filters nor sorts nor pages; with a marker it leaves them
out. So the first request has `all_tenants` alone. If that page is full, Nova leaves them out as
well; then the list of compute services, which is never paged, tells of cells that are down.

**Pages.** Each page begins after the last server of the page before it, in Nova's own order: the
time of creation, newest first, then the UUID. Neither changes while a server migrates, is resized,
evacuated, shelved or rebuilt, so a server keeps its place. A server that is created meanwhile comes
before the marker and is not listed; the audit looks at Nova again after the hosts. A server that
is deleted still is a marker; once it has left the database, or its build request has ended, Nova
says that there is no such marker, and the list begins again. Pages are asked for until one is
empty: Nova counts a page before it removes a server that is there twice, so that neither a short
page nor a missing link to a next one proves the end.

What this cannot prove: that no server was between two pages. More than `max_limit` servers that
wait for a host at the same time can lose one, because it is created again, in a cell, with a later
time. And Nova's list leaves out servers that are soft-deleted. So a UUID that a list lacks is asked
for by id before the audit believes it.

**By id.** GET /servers/{id} tells every server that is not deleted, of all projects, soft-deleted
ones too. Of one that is not there, the list with `deleted` and `uuid` tells whether it was deleted;
Nova keeps these until its database is archived. GET /os-migrations tells the migrations of all
types and statuses, of all cells that answer; GET /servers/{id}/os-instance-actions what was asked
of the server, from 2.21 on also after its deletion. A server whose deletion was asked for while its
cell is down is not there in any of these answers; so if one is not there, the list of compute
services tells of cells that are down.

Source: nova/api/openstack/compute/servers.py (`_is_cell_down_supported`), nova/compute/api.py
(`get_all`, `get`, `get_migrations_sorted`), nova/compute/instance_list.py, api-guide down_cells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar
from uuid import UUID

from guestlist import threads
from guestlist.audit import api_rows
from guestlist.audit.api_rows import BadRow
from guestlist.audit.nova_session import DOWN_CELLS, Answer, NovaSession
from guestlist.audit.rows import Migration, NovaLook, Server
from guestlist.errors import NovaFailure, ThreadUnavailable
from guestlist.unpatched import time
from guestlist.waiting import Bell

T = TypeVar("T")

AT_ONCE = 8
"""Servers that are asked for by id at a time."""

MOST_BEGINNINGS = 5
"""How often a list is begun, when the server at the end of a page vanishes."""

MOST_PAGES = 10_000
"""Pages of one list: an API that ignores the marker would go on without end."""

_MOST_ACTIONS = "100"
_LOOK = 0.25
"""Seconds between two looks at whether an answer is late."""

_ALL = {"all_tenants": "1"}


class _MarkerGone(Exception):
    """Nova does not know the server at the end of the last page any more."""


class NovaApi:
    """A live Nova. Opens its session with the first question.

    Args:
        cloud: its name in clouds.yaml; None: what OS_CLOUD or the OS_* variables name.
        timeout: seconds for each answer of Nova, from the request to the last byte. A list of many
            servers takes several answers, and Nova some seconds for 1,000 servers. The token and
            the versions together count as one answer.
    """

    can_look_again = True

    def __init__(self, cloud: str | None, timeout: float) -> None:
        self._session = NovaSession(cloud, timeout)

    def servers(self) -> NovaLook:
        """Return all servers, of all projects and cells; `missing` names what Nova left out.

        Raises:
            NovaDenied: the credentials are wrong, or no administrator's.
            NovaUnreachable: no such cloud, no endpoint, no connection.
            NovaLost: no complete answer in time.
            NovaFailure: an answer that is an error, or no answer of Nova's.

        Cost: a request for each `max_limit` servers, and one more; one for the compute services if
            there is more than one page. The first question also gets a token and the versions.
        """
        (look,) = self._on_threads([self._servers])
        return look

    def some(self, uuids: Collection[UUID]) -> NovaLook:
        """Return the servers with these UUIDs, deleted ones too, with migrations and actions.

        A UUID that Nova does not know is in `asked` and not in `servers`. What a server's record
        says is read before its migrations, and these before its actions.

        Raises:
            NovaFailure: as for `servers`.

        Cost: three requests for each server, one more if it is deleted, `AT_ONCE` servers at a
            time; two for one that Nova does not know, and then one for the compute services.
        """
        self._on_threads([self._session.open])
        began = time.monotonic()
        asked = frozenset(uuids)
        found = self._on_threads([partial(self._one, uuid) for uuid in sorted(asked)])
        servers = {server.uuid: server for server, _ in found if server is not None}
        missing = [line for _, lines in found for line in lines]
        if len(servers) < len(asked):
            (hidden,) = self._on_threads([self._hidden_cells])
            missing += hidden
        return NovaLook(
            began=began,
            ended=time.monotonic(),
            servers=servers,
            missing=(*api_rows.down_cell(servers.values()), *dict.fromkeys(missing)),
            asked=asked,
        )

    # All servers

    def _servers(self) -> NovaLook:
        self._session.open()
        began = time.monotonic()
        for _ in range(MOST_BEGINNINGS):
            try:
                servers, is_long = self._pages()
            except _MarkerGone:
                continue
            down = api_rows.down_cell(servers.values())
            missing = [*down, *self._untold(servers.values())]
            if is_long or not self._session.tells_down_cells:
                missing += self._hidden_cells()
            return NovaLook(began, time.monotonic(), servers, tuple(missing))
        raise self._unusable(
            f"{MOST_BEGINNINGS} times the server at the end of a page vanished before the next page"
        )

    def _pages(self) -> tuple[dict[UUID, Server], bool]:
        """Return the servers of all pages, and whether the first page did not have all of them."""
        servers: dict[UUID, Server] = {}
        markers: list[str] = []
        is_long = False
        while True:
            marker = {"marker": markers[-1]} if markers else {}
            answer = self._session.get("/servers/detail", {**_ALL, **marker})
            if markers and answer.status == 400:
                raise _MarkerGone
            page = [self._read(api_rows.server, row) for row in self._list(answer, "servers")]
            servers |= {server.uuid: server for server in page}
            is_long = is_long or "servers_links" in answer.body or bool(markers and page)
            told = [str(each.uuid) for each in page if not api_rows.is_of_down_cell(each)]
            if not told:
                return servers, is_long
            if told[-1] in markers or len(markers) == MOST_PAGES:
                raise self._unusable("its pages have no end")
            markers.append(told[-1])

    def _untold(self, servers: Iterable[Server]) -> Iterator[str]:
        """Yield the lines about what Nova keeps from this user."""
        told = [server for server in servers if not api_rows.is_of_down_cell(server)]
        if not all(server.has_host for server in told):
            yield (
                "Nova tells this user no hosts of servers; an administrator sees them (policy "
                "os_compute_api:os-extended-server-attributes)"
            )
        if not all(server.has_state for server in told):
            yield "Nova tells this user no task states and power states of servers"

    def _hidden_cells(self) -> list[str]:
        """Return the lines about cells that are down and of which an answer does not tell."""
        if self._session.tells_down_cells:
            return list(self._down_services())
        has = self._session.microversion
        found = f"microversion {'.'.join(map(str, has))}" if has else "no microversion"
        wanted = ".".join(map(str, DOWN_CELLS))
        return [
            f"Nova's API has {found}: only from {wanted} on it tells of a cell that is down, so "
            "servers may be left out"
        ]

    def _down_services(self) -> Iterator[str]:
        """Yield the line about compute services of cells that are down."""
        answer = self._session.get("/os-services", {"binary": "nova-compute"})
        if answer.status == 403:
            yield (
                "Nova refuses its list of compute services (HTTP 403), so a cell that is down "
                "would go unnoticed"
            )
            return
        rows = [self._read(api_rows.mapping, row) for row in self._list(answer, "services")]
        if down := [str(row.get("host")) for row in rows if row.get("status") == api_rows.UNKNOWN]:
            yield (
                "a cell of Nova is down: its servers are left out, those of the compute services "
                f"{api_rows.some_of(down)}"
            )

    # One server

    def _one(self, uuid: UUID) -> tuple[Server | None, list[str]]:
        """Return the server, None if Nova does not know it, and the lines about what is missing."""
        server = self._by_id(uuid)
        missing: list[str] = []
        if server is None:
            server, missing = self._deleted(uuid)
        if server is None or api_rows.is_of_down_cell(server):
            return server, missing
        missing += self._untold([server])
        migrations = self._migrations(uuid)
        actions = self._actions(uuid)
        if migrations is None:
            missing.append("Nova refuses its list of migrations (HTTP 403)")
        if actions is None:
            missing.append("Nova refuses the list of what was asked of a server (HTTP 403)")
        return replace(server, migrations=migrations, actions=actions), missing

    def _by_id(self, uuid: UUID) -> Server | None:
        answer = self._session.get(f"/servers/{uuid}")
        if _is_not_there(answer):
            return None
        if answer.status != 200:
            raise self._session.refusal(answer, f"ask for server {uuid}")
        server = self._read(api_rows.server, answer.body.get("server"))
        if server.uuid != uuid:
            raise self._unusable(f"asked for server {uuid}, it tells of {server.uuid}")
        return server

    def _deleted(self, uuid: UUID) -> tuple[Server | None, list[str]]:
        """Return the server if Nova has deleted it, and the line about what is missing."""
        asked = {**_ALL, "deleted": "true", "uuid": str(uuid)}
        rows = self._list(self._session.get("/servers/detail", asked), "servers")
        servers = [self._read(api_rows.server, row) for row in rows]
        if all(server.uuid == uuid for server in servers):
            return (servers[0] if servers else None), []
        return None, [
            "Nova tells this user no deleted servers; an administrator sees them (policy "
            "os_compute_api:servers:allow_all_filters)"
        ]

    def _migrations(self, uuid: UUID) -> tuple[Migration, ...] | None:
        """Return the migrations, newest first; None: Nova refuses to tell them."""
        answer = self._session.get("/os-migrations", {"instance_uuid": str(uuid)})
        if answer.status == 403:
            return None
        rows = self._list(answer, "migrations")
        return tuple(self._read(api_rows.migration, row) for row in rows)

    def _actions(self, uuid: UUID) -> tuple[str, ...] | None:
        """Return the request ids, newest first; None: Nova refuses to tell them."""
        params = {"limit": _MOST_ACTIONS} if self._session.tells_down_cells else {}
        answer = self._session.get(f"/servers/{uuid}/os-instance-actions", params)
        if answer.status == 403:
            return None
        if _is_not_there(answer):
            return ()
        rows = self._list(answer, "instanceActions")
        return tuple(self._read(api_rows.request_id, row) for row in rows)

    # An answer

    def _list(self, answer: Answer, name: str) -> list[object]:
        """Return the list of this name in an answer."""
        if answer.status != 200:
            raise self._session.refusal(answer, f"list the {name} of all projects")
        rows = answer.body.get(name)
        if not isinstance(rows, list):
            raise self._unusable(f"its answer lacks {name!r}: another program answers there")
        return rows

    def _read(self, read: Callable[[object], T], row: object) -> T:
        try:
            return read(row)
        except BadRow as error:
            raise self._unusable(f"a row of its answer {error}") from None

    def _unusable(self, why: str) -> NovaFailure:
        return NovaFailure(f"cannot use what the Nova of {self._session.label} answers: {why}")

    def _on_threads(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        return _side_by_side(jobs, self._session.overdue)


def _is_not_there(answer: Answer) -> bool:
    """Return whether Nova itself says that there is no such server: a proxy may answer 404 too."""
    return answer.status == 404 and "itemNotFound" in answer.body


def _side_by_side(
    jobs: Sequence[Callable[[], T]], overdue: Callable[[], NovaFailure | None]
) -> list[T]:
    """Return the result of each job, in their order; at most `AT_ONCE` run at a time.

    If one fails, no further one begins, and its error is raised; likewise what `overdue` returns,
    which is called again and again.
    """
    todo = deque(range(len(jobs)))
    results: dict[int, T] = {}
    failures: deque[Exception] = deque()
    bell = Bell()

    def work() -> None:
        while not failures:
            try:
                place = todo.popleft()
            except IndexError:
                return
            try:
                results[place] = jobs[place]()
            except Exception as error:
                failures.append(error)
            bell.ring()

    try:
        _start(work, min(AT_ONCE, len(jobs)))
        while not failures and len(results) < len(jobs):
            bell.wait_for(lambda: failures or len(results) == len(jobs), _LOOK)
            if late := overdue():
                raise late
    finally:
        todo.clear()
    if failures:
        raise failures[0]
    return [results[place] for place in range(len(jobs))]


def _start(work: Callable[[], None], most: int) -> None:
    """Start threads, as many as the system gives; they take the jobs one after the other."""
    for number in range(most):
        try:
            threads.start(work, "guestlist-nova")
        except ThreadUnavailable:
            if number == 0:
                raise
            return

"""The rule of the audit: rounds of looks -> findings. Pure.

In: the first round (Nova, all hosts, Nova again) and the second, at the suspects alone. Out: an
`Audit`. What the rule promises, each number held by the tests that cite it:

A1  A finding rests on a look at a host and on looks at Nova before and after it. What only one of
    the two looks at Nova shows is no finding: a server that was launched, moved or deleted while
    the hosts were asked.
A2  A certain finding stood in both rounds. Around the second look at the hosts Nova's record was
    the same: status, task, host, time of change, migrations and actions. Nova was not at work on
    the server. So no operation that Nova began can be the cause.
A3  Some differences are certain only if they lasted for the seconds of `settle`. Power states: Nova
    hears of a guest that stops by itself later than libvirt. A second copy: the destination of a
    live migration that was cancelled deletes its domain after the record has settled. A tap device:
    Nova attaches it to a running guest without a task.
A4  Whatever one more look could refute is possible, and its reason says what could explain it.
    Where Nova cannot be looked at again (a file) each finding that rests on Nova is possible.
A5  What is missing is named in `Audit.incomplete`: a host that failed, a cell that is down, a list
    that was cut or tells no hosts. Nothing is certain that the missing part could explain, or a
    host that was not asked.
A6  Copies that Nova keeps by right are no finding: of a resize that waits for the user, of an
    evacuated guest, of a shelved one, and all of a server that Nova is changing. A copy that runs
    beside another is told of even then, as possible; and what differs while only the record of a
    migration says that it has not ended, because such a record may stay for ever.
A7  Domains of other launchers are counted, by launcher, and not accused.
A8  Each fault that was there before the audit began, and that no doubt explains, is found in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

from guestlist.audit import expected, words
from guestlist.audit.differences import STARTING, Difference, Key, differences, may_start
from guestlist.audit.findings import Audit, Certainty, Finding, Kind
from guestlist.audit.names import HostNames
from guestlist.audit.rows import HostLook, NovaLook, Round, Server
from guestlist.errors import short

_TOLD_BY_ID = (Kind.DELETED_IN_NOVA, Kind.RUNNING_THOUGH_SHUTOFF, Kind.WRONG_HOST)
"""What a domain may be that Nova's lists do not know, when Nova is asked for it by id."""

_OF_POWER = frozenset((Kind.POWER_STATE, Kind.RUNNING_THOUGH_SHUTOFF))
_MUST_LAST = _OF_POWER | {Kind.ACTIVE_ON_TWO_HOSTS, Kind.SHARED_UUID, Kind.TAP_WITHOUT_DOMAIN}
"""What Nova may leave for a moment, while its record says nothing of it."""


@dataclass(frozen=True, slots=True)
class Suspects:
    """What the second round looks at: UUIDs for Nova, and hosts (`HostLook.host`)."""

    uuids: frozenset[UUID]
    hosts: frozenset[str]
    number: int
    must_last: bool
    """Whether one of them is certain only after some seconds (A3)."""

    def __bool__(self) -> bool:
        return self.number > 0

    @property
    def in_words(self) -> str:
        """How many there are, for people."""
        return "1 thing" if self.number == 1 else f"{self.number:,} things"


def suspects(first: Round) -> Suspects:
    """Return what the first round leaves to be looked at again."""
    names = _names(first)
    found = _standing(first, names)
    uuids = {copy.domain.uuid for each in found.values() for copy in each.copies}
    uuids |= {each.uuid for each in found.values() if each.uuid is not None}
    hosts = {look.host for each in found.values() for look in each.looks}
    tapped: dict[str, HostLook] = {}
    for each in found.values():
        if each.server is not None and (home := names.home(each.server)) is not None:
            hosts.add(home)
        if each.kind is Kind.TAP_WITHOUT_DOMAIN and each.host is not None:
            tapped[each.host.host] = each.host
    for look in tapped.values():
        uuids |= set(_starting(first, look, names))
    return Suspects(
        uuids=frozenset(uuids),
        hosts=frozenset(hosts),
        number=len(found),
        must_last=any(key.kind in _MUST_LAST for key in found),
    )


def judge(
    first: Round, second: Round | None = None, *, settle: float, failure: str | None = None
) -> Audit:
    """Return the result of an audit.

    Args:
        first: the round at everything.
        second: the round at the suspects; None if there was none.
        settle: seconds for which some differences have to last (A3).
        failure: why a second round that was due could not be made.
    """
    names = _names(first)
    found = _standing(first, names)
    if second is None:
        verdicts = [each.doubted(_unseen(first, each)) for each in found.values()]
    else:
        again = _standing(second, names)
        verdicts = []
        for key, each in found.items():
            stood = again.get(key) or _told_by_id(key, again, found)
            if stood is not None:
                carried = [one for one in each.doubts if one != STARTING]
                doubts = _doubts(stood, first, second, settle)
                verdicts.append(stood.doubted(*carried, *doubts))
            elif host := _unanswered(each, second):
                verdicts.append(each.doubted(f"{short(host)} did not answer a second time"))
    looks = first.hosts
    return Audit(
        findings=tuple(sorted(map(_finding, verdicts), key=_order(looks))),
        incomplete=tuple(dict.fromkeys(_incomplete(first, second, names, found, failure))),
        hosts=len(looks),
        domains=sum(len(look.domains or ()) for look in looks),
        servers=len((first.after or first.before).servers),
        others=_others(looks, first.before),
        hosts_not_asked=len(names.not_asked),
    )


def _names(first: Round) -> HostNames:
    before = first.before.servers
    servers = (first.after or first.before).servers
    steady = {uuid: each for uuid, each in servers.items() if before.get(uuid) == each}
    return HostNames(first.hosts, servers, steady)


def _standing(looks: Round, names: HostNames) -> dict[Key, Difference]:
    """Return the differences that both looks at Nova show (A1), with the doubts of both."""
    before = differences(looks.hosts, looks.before, names=names)
    if looks.after is None:
        return before
    after = differences(looks.hosts, looks.after, names=names)
    return {
        key: after[key].doubted(*(each for each in one.doubts if each not in after[key].doubts))
        for key, one in before.items()
        if key in after
    }


def _starting(first: Round, host: HostLook, names: HostNames) -> Iterator[UUID]:
    """Yield the servers whose guests Nova may have been about to start on the host.

    The later look at Nova is the one that counts: the tap device was there before it.
    """
    for uuid, server in (first.after or first.before).servers.items():
        if may_start(server, host.host, names):
            yield uuid


def _told_by_id(
    key: Key, again: Mapping[Key, Difference], found: Mapping[Key, Difference]
) -> Difference | None:
    """Return what the second round says of a domain that the lists did not know.

    The lists lack servers that are deleted or softly deleted; a question by id tells them. It may
    say it of one of several copies. The domain must still be there: Nova deletes what was deleted
    softly without a task and an action (nova/compute/manager.py, `_reclaim_queued_deletes`).
    """
    if key.kind is not Kind.UNKNOWN_TO_NOVA:
        return None
    same = (
        each
        for new, each in again.items()
        if new.kind in _TOLD_BY_ID
        and new.uuid == key.uuid
        and set(new.hosts) <= set(key.hosts)
        and new not in found
    )
    return min(same, key=lambda each: _TOLD_BY_ID.index(each.kind), default=None)


def _unseen(first: Round, each: Difference) -> str:
    """Return why a difference is only possible that no second round has looked at."""
    if first.after is None and first.failure is None:
        if each.kind is Kind.UNKNOWN_TO_NOVA:
            return "the servers came from a file: Nova may have deleted this one, or made it since"
        return "the servers came from a file, and Nova may have changed them since"
    return "Nova could not be asked a second time"


def _unanswered(each: Difference, second: Round) -> str | None:
    """Return the host of the difference that failed in the second round."""
    failed = [look.host for look in second.hosts if look.domains is None]
    return next((look.host for look in each.looks if look.host in failed), None)


def _doubts(each: Difference, first: Round, second: Round, settle: float) -> Iterator[str]:
    """Yield what could explain a difference that stood in both rounds."""
    after = second.after
    looks = [look for look in second.hosts if look.host in {one.host for one in each.looks}]
    if after is None or not all(_in_order(second, look) for look in looks):
        yield "the looks at Nova and at the host did not follow each other"
        return
    for uuid in _uuids(each):
        before, later = second.before.servers.get(uuid), after.servers.get(uuid)
        if before != later:
            yield "Nova's record changed while the host was asked"
        elif later is not None and later.status != expected.DELETED and _is_short(later):
            yield "Nova did not tell the server's migrations and actions"
    if each.kind in _MUST_LAST and not (each.kind in _OF_POWER and _is_deleted_softly(each)):
        lasted = min(look.began for look in looks) - max(look.ended for look in first.hosts)
        if lasted < settle:
            yield f"it was seen for less than {settle:g} s"


def _is_deleted_softly(each: Difference) -> bool:
    """Return whether Nova itself stopped the guest, before it wrote the status."""
    return each.server is not None and each.server.status == "SOFT_DELETED"


def _uuids(each: Difference) -> set[UUID]:
    found = {copy.domain.uuid for copy in each.copies}
    return found | {each.uuid} if each.uuid is not None else found


def _in_order(second: Round, look: HostLook) -> bool:
    after = second.after
    return after is not None and second.before.ended <= look.began <= look.ended <= after.began


def _is_short(server: Server) -> bool:
    return server.migrations is None or server.actions is None


def _incomplete(
    first: Round,
    second: Round | None,
    names: HostNames,
    found: Mapping[Key, Difference],
    failure: str | None,
) -> Iterator[str]:
    """Yield what is missing on either side, a line each."""
    for looks in filter(None, (first, second)):
        for nova in filter(None, (looks.before, looks.after)):
            yield from nova.missing
        for look in looks.hosts:
            if look.failure is not None:
                yield look.failure
        if looks.failure is not None:
            yield f"Nova could not be asked a second time: {looks.failure}"
    if failure is not None:
        yield f"the suspects could not be looked at again: {failure}"
    yield from names.problems
    yield from _untold_hosts(first.before)
    yield from _unreached_projects(first, found.values())


def _untold_hosts(nova: NovaLook) -> Iterator[str]:
    """Yield how many servers have no word about a host: a list without --long tells none."""
    told = [each for each in nova.servers.values() if each.status != expected.UNKNOWN]
    if untold := sum(not each.has_host for each in told):
        number = "1 server" if untold == 1 else f"{untold:,} servers"
        yield (
            f"Nova's list tells no host of {number}: domains on the wrong host and missing ones "
            "are not found; make the list with --long, as an administrator"
        )


def _unreached_projects(first: Round, found: Iterable[Difference]) -> Iterator[str]:
    """Yield the projects that Nova's list does not have, and whose guests run here."""
    projects = {each.project_id for each in first.before.servers.values()} - {None}
    for each in found:
        if each.kind is not Kind.UNKNOWN_TO_NOVA or not projects:
            continue
        details = each.copies[0].domain.details
        owner = details.nova.owner if details and details.nova else None
        if owner and owner.project_id and owner.project_id not in projects:
            yield (
                f"Nova's list has no server of project {short(owner.project_id)}, and "
                f"{each.copies[0].look.host} runs a guest of it: a list of all projects needs "
                "--all-projects"
            )


def _finding(each: Difference) -> Finding:
    domain = each.copies[0].domain if each.copies else None
    server = each.server
    return Finding(
        kind=each.kind,
        certainty=Certainty.POSSIBLE if each.doubts else Certainty.CERTAIN,
        hosts=tuple(look.host for look in each.looks),
        uuid=each.uuid,
        name=domain.name if domain else server.instance_name if server else None,
        subject=each.subject,
        reason=words.reason(each),
        libvirt=words.libvirt_facts(each),
        nova=words.nova_facts(server),
        next_step=words.next_step(each),
        server_name=server.name if server else None,
        project_id=server.project_id if server else None,
    )


def _order(looks: Iterable[HostLook]) -> Callable[[Finding], tuple[int, int, int, str, str]]:
    """Return the key that sorts findings: certain first, then by kind, host and name."""
    places = {look.host: place for place, look in enumerate(looks)}
    kinds = list(Kind)

    def key(each: Finding) -> tuple[int, int, int, str, str]:
        place = places[each.hosts[0]] if each.hosts else 0
        is_possible = each.certainty is Certainty.POSSIBLE
        return is_possible, kinds.index(each.kind), place, each.name or "", str(each.uuid)

    return key


def _others(looks: Iterable[HostLook], nova: NovaLook) -> dict[str, int]:
    """Return how many domains others launched, by launcher."""
    return dict(
        Counter(
            str(one.launcher)
            for look in looks
            for one in look.domains or ()
            if not one.ours and one.uuid not in nova.servers
        )
    )

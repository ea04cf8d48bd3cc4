"""Questions about the jobs of guests, over a connection of their own, within a deadline.

In: domains. Out: what libvirt tells of their jobs, and which domains did not answer. The question
enters the guest's monitor while a job runs, and a stuck guest never answers it; such a domain is
not asked again until that call has come back.

Source: libvirt src/qemu/qemu_driver.c (qemuDomainGetJobStatsInternal).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import libvirt

from guestlist import threads
from guestlist.connection import Connection
from guestlist.errors import Code, ThreadUnavailable
from guestlist.lookup import keep_known, look_up
from guestlist.peer import Peer
from guestlist.side_calls import MOST_HANGING, PerDomainCalls, PerDomainOutcome, SideCalls

log = logging.getLogger(__name__)

_UNDER_WAY = 1, 2
"""VIR_DOMAIN_JOB_BOUNDED and _UNBOUNDED: the other types say that there is no job any more."""

_REFUSALS: Mapping[int | None, bool] = {
    Code.OPERATION_INVALID: True,
    Code.OPERATION_UNSUPPORTED: True,  # newer libvirts
    Code.NO_SUPPORT: False,
}
"""What a failed question tells: whether the domain is the target of a migration. libvirt tells
about the job only on the source. A hypervisor driver may lack the question."""


class Job(NamedTuple):
    """What libvirt told of a guest's job."""

    values: Mapping[str, Any]
    """By the names of VIR_DOMAIN_JOB_*, and "type"; empty where libvirt refused."""

    is_target: bool | None = False
    """Whether libvirt refused because the job is a migration to this host; None: it did not tell,
    for example because the domain is just being removed."""

    @property
    def is_under_way(self) -> bool:
        """Whether there is a job."""
        return self.values.get("type") in _UNDER_WAY


class JobCalls:
    """Asks about the jobs of guests, over a connection of its own. Threads may share it."""

    def __init__(self, connection: Connection) -> None:
        """Open nothing yet. `connection` is only a pattern: others like it are opened."""
        self._side_calls = SideCalls(connection, MOST_HANGING)
        self._each = PerDomainCalls(self._side_calls)

    def ask(self, uuids: Iterable[UUID], deadline: float) -> Answers:
        """Return what libvirt tells of the jobs of these domains within `deadline` seconds.

        Never raises: where libvirt cannot be asked, nothing is answered, and the log says why.

        Cost: 1 call for each domain, and 1 more the first time, to look it up.
        """
        asked = [uuid.bytes for uuid in uuids]
        if not asked:
            return Answers({}, frozenset())
        try:
            found = threads.run_uninterrupted(
                partial(self._each.ask, "read the jobs", asked, _job, deadline),
                "guestlist-jobs-wait",
            )
        except ThreadUnavailable as error:
            found = PerDomainOutcome(failure=error)
        if found.failure is not None:
            log.warning("%s: no statistics of jobs: %s", self._side_calls.label, found.failure)
        return Answers(
            {UUID(bytes=uuid): job for uuid, job in found.answers.items() if job is not None},
            frozenset(UUID(bytes=uuid) for uuid in found.silent),
        )

    def close(self) -> None:
        """Close the idle connection; a call under way closes its own when it returns."""
        threads.finish(self._side_calls.close, "guestlist-jobs-close", wait=True)


class Answers(NamedTuple):
    """What was told of jobs, by domain; and the domains whose call did not come back in time."""

    jobs: Mapping[UUID, Job]
    silent: Collection[UUID]


def _job(peer: Peer, uuid: bytes) -> Job | None:
    """Return what libvirt tells of a domain's job; None: the domain is gone."""
    domain = peer.handles.get(uuid) or look_up(peer, uuid)
    if domain is None:
        return None
    try:
        values = peer.call(domain.jobStats)
    except libvirt.libvirtError as error:
        if peer.lost(error):
            raise
        keep_known(peer, uuid, None)
        return Job({}, _REFUSALS.get(error.get_error_code()))
    keep_known(peer, uuid, domain)
    return Job(values)

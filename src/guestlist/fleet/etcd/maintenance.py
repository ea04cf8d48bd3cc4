"""The members of an etcd, their state, and alarms.

In: a connection. Out: frozen values. Some versions deny `status` to ordinary users (3.5.28 to
3.5.31, 3.6.9 to 3.6.11), so nothing here may be needed for daily work.
"""

from __future__ import annotations

from typing import NamedTuple

from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.messages import Alarm

__all__ = ["Alarm", "AlarmOf", "Member", "Status", "alarms", "disarm", "members", "status"]


class Status(NamedTuple):
    """The state of one member.

    `size` is the size of its file in bytes, and `size_in_use` what of it holds data. `leader` is
    the number of the leader, 0 without one. `errors` are etcd's lines on what is wrong: alarms.
    """

    version: str
    member: int
    leader: int
    size: int
    size_in_use: int
    revision: int
    errors: tuple[str, ...]


class Member(NamedTuple):
    """A member as the cluster knows it, and the URLs that it tells its clients."""

    id: int
    name: str
    client_urls: tuple[str, ...]
    is_learner: bool


class AlarmOf(NamedTuple):
    """An alarm, and the number of the member that raised it."""

    member: int
    alarm: Alarm


def status(etcd: Etcd, member: str | None = None) -> Status:
    """Return the state of a member, one of `Etcd.members`; None: of any.

    Raises:
        Denied: this version denies it to ordinary users.
        Unreachable, Refused.
    """
    answer = etcd.call("Status", "ask for the state of a member", member=member)
    return Status(
        answer.version,
        answer.header.member_id,
        answer.leader,
        answer.dbSize,
        answer.dbSizeInUse,
        answer.header.revision,
        tuple(answer.errors),
    )


def members(etcd: Etcd) -> tuple[Member, ...]:
    """Return the members of the cluster."""
    return tuple(
        Member(each.ID, each.name, tuple(each.clientURLs), each.isLearner)
        for each in etcd.call("MemberList", "list the members").members
    )


def alarms(etcd: Etcd) -> tuple[AlarmOf, ...]:
    """Return the alarms that are raised."""
    return tuple(
        AlarmOf(each.memberID, Alarm(each.alarm))
        for each in etcd.call("Alarm", "ask for alarms").alarms
    )


def disarm(etcd: Etcd, alarm: AlarmOf) -> None:
    """End an alarm. etcd raises it again if its reason lasts."""
    asked = f"end alarm {alarm.alarm.name}"
    etcd.call("Alarm", asked, action=2, memberID=alarm.member, alarm=int(alarm.alarm))


def defragment(etcd: Etcd, member: str) -> None:
    """Give the free space of a member's file back to its file system. It answers nothing meanwhile.

    Raises:
        UnknownOutcome: it took longer than 60 s.
        Denied, Unreachable.
    """
    etcd.call("Defragment", "defragment a member", member=member, timeout=60.0)

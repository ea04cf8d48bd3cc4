"""The rule of the audit: each promise of `guestlist.audit.rule`, on looks made by hand."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from guestlist.audit import rule
from guestlist.audit.findings import Audit, Certainty, Kind
from guestlist.audit.rows import HostLook, LostDisk, Migration, NovaLook, PowerState, Round, Server
from guestlist.launcher import Launcher
from guestlist.records import Instance
from guestlist.states import DomainState

ONE = UUID(int=1)
TWO = UUID(int=2)
THREE = UUID(int=3)
SETTLE = 20.0

RUNNING, SHUTOFF, PAUSED = DomainState.RUNNING, DomainState.SHUTOFF, DomainState.PAUSED


def domain(uuid=ONE, state=RUNNING, name=None, launcher=Launcher.NOVA):
    active = None if state is SHUTOFF else uuid.int
    ours = launcher is Launcher.NOVA
    return Instance(uuid, name or f"instance-{uuid.int:08x}", active, state, 1, launcher, ours=ours)


def server(uuid=ONE, status="ACTIVE", host="a", **more):
    power = {"ACTIVE": PowerState.RUNNING, "SHUTOFF": PowerState.SHUTDOWN}.get(status)
    facts = {
        "power_state": power,
        "hypervisor_hostname": host,
        "instance_name": f"instance-{uuid.int:08x}",
        "updated": "2026-11-01T00:00:00Z",
    }
    return Server(uuid, f"server {uuid.int}", status, host, **{**facts, **more})


def asked(one):
    """Return the server as a question by id tells it."""
    return replace(one, migrations=one.migrations or (), actions=one.actions or ("req-1",))


def looked(at=10.0, **domains):
    """Return looks at hosts of these names; None for one that failed."""
    return tuple(
        HostLook(
            f"qemu+tls://{name}/system",
            at,
            at + 1,
            None if those is None else tuple(those),
            names=(name,),
            failure=f"no answer from {name}" if those is None else None,
        )
        for name, those in domains.items()
    )


def renamed(looks, **names):
    """Return the looks, those at hosts of these names with other names."""
    return tuple(
        replace(each, names=tuple(names.get(name, name) for name in each.names)) for each in looks
    )


def nova(*servers, at=0.0, missing=(), by_id=None):
    rows = {each.uuid: each for each in servers}
    return NovaLook(at, at + 1, rows, tuple(missing), None if by_id is None else frozenset(by_id))


def audit(servers, *, missing=(), later=None, by_id=None, lost=None, **domains):
    """Audit what stands still: the same in all looks, but for `later`, Nova's last answer."""
    first = Round(nova(*servers, missing=missing), looked(**domains), nova(*servers, at=20.0))
    found = rule.suspects(first)
    rows = [asked(each) for each in (by_id if by_id is not None else servers)]
    rows = [each for each in rows if each.uuid in found.uuids]
    last = [asked(each) for each in later] if later is not None else rows
    hosts = tuple(each for each in looked(at=60.0, **domains) if each.host in found.hosts)
    second = Round(
        nova(*rows, at=50.0, by_id=found.uuids), hosts, nova(*last, at=70.0, by_id=found.uuids)
    )
    return rule.judge(first, second, settle=SETTLE)


def kinds(result):
    return [(each.kind, each.certainty.value) for each in result.findings]


CERTAIN = Certainty.CERTAIN.value
POSSIBLE = Certainty.POSSIBLE.value


class TestFound:
    """A8: each fault that stands still is found, and certain."""

    def test_what_agrees_is_no_finding(self):
        result = audit([server(), server(TWO, "SHUTOFF")], a=[domain(), domain(TWO, SHUTOFF)])
        assert result == Audit((), (), 1, 2, 2, {})

    def test_a_guest_that_runs_though_nova_says_shutoff(self):
        result = audit([server(status="SHUTOFF")], a=[domain()])
        assert kinds(result) == [(Kind.RUNNING_THOUGH_SHUTOFF, CERTAIN)]
        (found,) = result.findings
        assert found.hosts == ("qemu+tls://a/system",)
        assert found.libvirt["qemu+tls://a/system"]["state"] == "running"
        assert found.nova["status"] == "SHUTOFF"
        assert str(ONE) in found.next_step

    def test_a_guest_that_is_active_on_two_hosts(self):
        result = audit([server()], a=[domain()], b=[domain()])
        assert kinds(result) == [(Kind.ACTIVE_ON_TWO_HOSTS, CERTAIN)]
        assert result.findings[0].hosts == ("qemu+tls://a/system", "qemu+tls://b/system")

    def test_a_guest_active_on_two_hosts_that_nova_does_not_know(self):
        result = audit([], a=[domain()], b=[domain()])
        assert kinds(result) == [
            (Kind.ACTIVE_ON_TWO_HOSTS, CERTAIN),
            (Kind.UNKNOWN_TO_NOVA, CERTAIN),
        ]

    def test_a_guest_on_the_wrong_host(self):
        result = audit([server(), server(TWO)], a=[domain(TWO)], b=[domain()])
        assert kinds(result) == [(Kind.WRONG_HOST, CERTAIN)]
        assert result.findings[0].hosts == ("qemu+tls://b/system",)

    def test_a_guest_that_nova_does_not_know(self):
        assert kinds(audit([], a=[domain()])) == [(Kind.UNKNOWN_TO_NOVA, CERTAIN)]

    def test_a_guest_that_nova_has_deleted(self):
        result = audit([], by_id=[server(status="DELETED")], a=[domain()])
        assert kinds(result) == [(Kind.DELETED_IN_NOVA, CERTAIN)]

    @pytest.mark.parametrize("status", ["ACTIVE", "SHUTOFF", "PAUSED", "SUSPENDED", "SHELVED"])
    def test_a_guest_that_is_missing_on_its_host(self, status):
        result = audit([server(status=status), server(TWO)], a=[domain(TWO)])
        assert kinds(result) == [(Kind.MISSING, CERTAIN)]
        assert result.findings[0].name == "instance-00000001"

    @pytest.mark.parametrize(
        ("status", "state"), [("ACTIVE", SHUTOFF), ("ACTIVE", PAUSED), ("PAUSED", RUNNING)]
    )
    def test_a_power_state_that_differs(self, status, state):
        result = audit([server(status=status)], a=[domain(state=state)])
        assert kinds(result) == [(Kind.POWER_STATE, CERTAIN)]

    def test_a_power_state_that_differs_from_the_status_of_one_record(self):
        row = server(power_state=PowerState.SHUTDOWN)
        assert kinds(audit([row], a=[domain()])) == [(Kind.POWER_STATE, CERTAIN)]

    def test_a_uuid_that_two_domains_share(self):
        result = audit([server()], a=[domain()], b=[domain(state=SHUTOFF)])
        assert kinds(result) == [(Kind.SHARED_UUID, CERTAIN)]

    @pytest.mark.parametrize("known", [True, False])
    def test_a_name_that_two_domains_share(self, known):
        rows = [server(), *([server(TWO, host="b")] if known else [])]
        result = audit(rows, a=[domain()], b=[domain(TWO, name="instance-00000001")])
        found = {each.kind: each for each in result.findings}
        assert found[Kind.SHARED_NAME].certainty is Certainty.CERTAIN
        assert found[Kind.SHARED_NAME].uuid == TWO
        assert (Kind.UNKNOWN_TO_NOVA in found) is not known

    def test_a_disk_that_is_gone(self):
        result = judged_locally(server(), lost_disks=(LostDisk(ONE, "vda", "/d/disk", True),))
        assert kinds(result) == [(Kind.DISK_GONE, CERTAIN)]
        assert result.findings[0].subject == "/d/disk"

    def test_a_tap_device_without_a_domain(self):
        result = judged_locally(server(), taps=("tap01234567-89",))
        assert kinds(result) == [(Kind.TAP_WITHOUT_DOMAIN, CERTAIN)]
        assert result.findings[0].uuid is None

    def test_a_guest_that_runs_though_it_was_deleted_softly(self):
        """Nova's lists do not have the server, a question by id tells it."""
        result = audit([], by_id=[server(status="SOFT_DELETED")], a=[domain()])
        assert kinds(result) == [(Kind.RUNNING_THOUGH_SHUTOFF, CERTAIN)]

    def test_a_guest_on_the_wrong_host_that_was_deleted_softly(self):
        result = audit(
            [server(TWO)], by_id=[server(status="SOFT_DELETED")], a=[domain(TWO)], b=[domain()]
        )
        assert (Kind.UNKNOWN_TO_NOVA, CERTAIN) not in kinds(result)
        assert result.findings[0].uuid == ONE
        assert result.findings[0].certainty is Certainty.CERTAIN

    def test_a_guest_that_runs_away_from_home_though_it_was_deleted_softly(self):
        rows = [server(TWO), server(THREE, host="b")]
        copies = {"a": [domain(state=SHUTOFF), domain(TWO)], "b": [domain(), domain(THREE)]}
        result = audit(rows, by_id=[server(status="SOFT_DELETED")], **copies)
        assert kinds(result) == [(Kind.RUNNING_THOUGH_SHUTOFF, CERTAIN)]
        assert result.findings[0].hosts == ("qemu+tls://b/system",)

    def test_certain_ones_come_first(self):
        rows = [server(status="SHUTOFF"), server(TWO, "VERIFY_RESIZE")]
        result = audit(rows, a=[domain(), domain(TWO)], b=[domain(TWO)])
        assert kinds(result) == [
            (Kind.RUNNING_THOUGH_SHUTOFF, CERTAIN),
            (Kind.ACTIVE_ON_TWO_HOSTS, POSSIBLE),
        ]


def judged_locally(*servers, at_work=(), **looked_at):
    """Audit the host of this machine, with what was looked at there."""
    domains = [domain(each.uuid) for each in servers]
    hosts = [replace(each, **looked_at) for each in looked(a=domains)]
    rows = (*servers, *at_work)
    first = Round(nova(*rows), tuple(hosts), nova(*rows, at=20.0))
    found = rule.suspects(first)
    rows = tuple(asked(each) for each in rows if each.uuid in found.uuids)
    again = [replace(each, began=60.0, ended=61.0) for each in hosts]
    second = Round(
        nova(*rows, at=50.0, by_id=found.uuids),
        tuple(again),
        nova(*rows, at=70.0, by_id=found.uuids),
    )
    return rule.judge(first, second, settle=SETTLE)


class TestByRight:
    """A6, A7: what Nova does by right is no finding."""

    @pytest.mark.parametrize(
        "status",
        ["MIGRATING", "RESIZE", "REVERT_RESIZE", "BUILD", "REBUILD", "REBOOT", "HARD_REBOOT"],
    )
    def test_a_server_that_nova_is_changing(self, status):
        row = server(status=status)
        assert not audit([row], a=[domain()], b=[domain(state=PAUSED)]).findings
        assert not audit([row], a=[], b=[domain()]).findings
        assert not audit([row], a=[], b=[]).findings

    def test_a_server_with_a_task(self):
        row = server(status="SHUTOFF", task_state="powering-on")
        assert not audit([row], a=[domain()]).findings

    def test_a_guest_that_runs_twice_while_nova_changes_it_is_possible(self):
        row = server(status="MIGRATING", task_state="migrating")
        result = audit([row], a=[domain()], b=[domain()])
        assert kinds(result) == [(Kind.ACTIVE_ON_TWO_HOSTS, POSSIBLE)]

    @pytest.mark.parametrize("status", ["running", "post-migrating", "running (post-copy)"])
    def test_a_migration_that_has_not_ended_is_a_doubt(self, status):
        """It may also never end: the compute service stopped, and its record stays."""
        row = server(migrations=(Migration("1", "live-migration", status),))
        result = audit([server()], by_id=[row], a=[], b=[domain()])
        assert kinds(result) == [(Kind.WRONG_HOST, POSSIBLE)]
        assert "migration" in result.findings[0].reason

    def test_a_server_that_was_deleted_while_it_migrated(self):
        move = Migration("1", "live-migration", "running", "a", "b")
        deleted = server(status="DELETED", migrations=(move,))
        result = audit([], by_id=[deleted], b=[domain(state=PAUSED)])
        assert kinds(result) == [(Kind.DELETED_IN_NOVA, POSSIBLE)]

    def test_the_old_copy_of_a_resize_to_another_cell_keeps_its_name_there(self):
        rows = [
            server(status="VERIFY_RESIZE", host="b", instance_name="instance-00000055"),
            server(TWO, host="c", instance_name="instance-00000001"),
        ]
        copies = {
            "a": [domain(state=SHUTOFF)],
            "b": [domain(name="instance-00000055")],
            "c": [domain(TWO, name="instance-00000001")],
        }
        assert not audit(rows, **copies).findings

    def test_the_old_copy_of_a_resize_that_waits(self):
        row = server(status="VERIFY_RESIZE")
        assert not audit([row], a=[domain()], b=[domain(state=SHUTOFF)]).findings

    def test_the_old_copy_of_an_evacuated_guest(self):
        moved = server(migrations=(Migration("1", "evacuation", "done", "b", "a"),))
        copies = {"a": [domain()], "b": [domain(state=SHUTOFF)]}
        assert not audit([server()], by_id=[moved], **copies).findings
        cleaned = server(migrations=(Migration("1", "evacuation", "completed", "b", "a"),))
        assert kinds(audit([server()], by_id=[cleaned], **copies)) == [(Kind.SHARED_UUID, CERTAIN)]

    def test_an_evacuated_guest_whose_old_copy_runs_is_possible(self):
        moved = server(migrations=(Migration("1", "evacuation", "done", "b", "a"),))
        result = audit([server()], by_id=[moved], a=[domain()], b=[domain()])
        assert kinds(result) == [(Kind.ACTIVE_ON_TWO_HOSTS, POSSIBLE)]
        assert "evacuated" in result.findings[0].reason

    def test_an_evacuated_guest_that_was_stopped_and_whose_old_copy_runs_is_possible(self):
        move = Migration("1", "evacuation", "done", "b", "a")
        row = server(status="SHUTOFF")
        result = audit(
            [row], by_id=[replace(row, migrations=(move,))], a=[domain(state=SHUTOFF)], b=[domain()]
        )
        assert set(kinds(result)) == {
            (Kind.RUNNING_THOUGH_SHUTOFF, POSSIBLE),
            (Kind.WRONG_HOST, POSSIBLE),
        }

    def test_a_shelved_server_without_a_domain_and_with_a_cold_one(self):
        row = server(status="SHELVED_OFFLOADED", host=None)
        assert not audit([row], a=[]).findings
        assert not audit([row], a=[domain(state=SHUTOFF)]).findings
        assert kinds(audit([row], a=[domain()])) == [(Kind.RUNNING_THOUGH_SHUTOFF, POSSIBLE)]

    def test_a_softly_deleted_server_that_nova_deletes_between_the_rounds(self):
        """Nova writes no task and no action when it deletes what was deleted softly."""
        first = Round(nova(), looked(a=[domain(state=SHUTOFF)]), nova(at=20.0))
        by_id = asked(server(status="SOFT_DELETED"))
        second = Round(
            nova(by_id, at=50.0, by_id=[ONE]),
            looked(at=60.0, a=[]),
            nova(by_id, at=70.0, by_id=[ONE]),
        )
        assert rule.judge(first, second, settle=SETTLE).findings == ()

    def test_a_server_that_is_being_rescued_or_was_softly_deleted(self):
        rows = [server(status="RESCUE"), server(TWO, "SOFT_DELETED")]
        assert not audit(rows, a=[domain(), domain(TWO, SHUTOFF)]).findings

    def test_a_server_that_failed_to_build(self):
        assert not audit([server(status="ERROR"), server(TWO)], a=[domain(TWO)]).findings

    def test_two_servers_of_two_cells_with_one_name(self):
        rows = [server(), server(TWO, host="b", instance_name="instance-00000001")]
        copies = {"a": [domain()], "b": [domain(TWO, name="instance-00000001")]}
        assert not audit(rows, **copies).findings

    def test_guests_of_others_are_counted(self):
        other = domain(launcher=Launcher.LIBGUESTFS, name="guestfs-abc")
        result = audit([], a=[other], b=[other])
        assert result.findings == ()
        assert result.others == {"libguestfs": 2}

    def test_a_guest_of_another_launchers_name_that_nova_knows_is_judged(self):
        strange = domain(launcher=Launcher.OTHER, name="renamed")
        result = audit([server(status="SHUTOFF")], a=[strange])
        assert kinds(result) == [(Kind.RUNNING_THOUGH_SHUTOFF, CERTAIN)]
        assert result.others == {}

    def test_a_tap_device_of_a_guest_about_to_start_is_possible(self):
        building = server(TWO, "BUILD", task_state="spawning")
        result = judged_locally(server(), at_work=[building], taps=("tap01234567-89",))
        assert kinds(result) == [(Kind.TAP_WITHOUT_DOMAIN, POSSIBLE)]

    @pytest.mark.parametrize(("dest", "certainty"), [("a", POSSIBLE), ("z", CERTAIN)])
    def test_a_tap_device_is_doubted_for_a_migration_to_its_host_only(self, dest, certainty):
        move = Migration("1", "live-migration", "running", "b", dest)
        moving = server(TWO, "MIGRATING", host="b", task_state="migrating", migrations=(move,))
        result = judged_locally(server(), at_work=[moving], taps=("tap01234567-89",))
        assert kinds(result) == [(Kind.TAP_WITHOUT_DOMAIN, certainty)]


class TestTime:
    """A1, A2, A3, A4: what changes while the audit looks is no finding, or only possible."""

    def test_a_guest_launched_while_the_hosts_were_asked(self):
        first = Round(nova(), looked(a=[domain()]), nova(server(), at=20.0))
        assert not rule.suspects(first)

    def test_a_guest_deleted_while_the_hosts_were_asked(self):
        first = Round(nova(server()), looked(a=[]), nova(at=20.0))
        assert not rule.suspects(first)

    def test_a_guest_migrated_while_the_hosts_were_asked(self):
        for copies in ({"a": [], "b": [domain()]}, {"a": [domain()], "b": []}, {"a": [], "b": []}):
            first = Round(nova(server(host="a")), looked(**copies), nova(server(host="b"), at=20.0))
            assert not rule.suspects(first), copies

    @pytest.mark.parametrize(
        "later",
        [
            server(updated="2026-11-01T00:00:01Z"),
            server(task_state="migrating"),
            server(actions=("req-2", "req-1")),
            server(migrations=(Migration("1", "live-migration", "completed"),)),
            server(host="b"),
        ],
    )
    def test_a_record_that_changes_around_the_second_look(self, later):
        result = audit([server(TWO), server()], later=[later], a=[domain(TWO)], b=[domain()])
        assert all(each.certainty is Certainty.POSSIBLE for each in result.findings)

    def test_a_difference_that_the_second_look_does_not_show(self):
        first = Round(nova(), looked(a=[domain()]), nova(at=20.0))
        second = Round(
            nova(at=50.0, by_id=[ONE]), looked(at=60.0, a=[]), nova(at=70.0, by_id=[ONE])
        )
        assert rule.judge(first, second, settle=SETTLE).findings == ()

    def test_a_softly_deleted_server_that_nova_reclaims_meanwhile(self):
        """Nova destroys the domain first, then the record, and writes no task."""
        first = Round(nova(), looked(a=[domain(state=SHUTOFF)]), nova(at=20.0))
        row = asked(server(status="SOFT_DELETED"))
        second = Round(
            nova(row, at=50.0, by_id=[ONE]), looked(at=60.0, a=[]), nova(row, at=70.0, by_id=[ONE])
        )
        assert rule.judge(first, second, settle=SETTLE).findings == ()

    def test_a_power_state_that_differed_too_shortly(self):
        rows = [server(status="SHUTOFF")]
        first = Round(nova(*rows), looked(a=[domain()]), nova(*rows, at=20.0))
        again = [asked(each) for each in rows]
        second = Round(
            nova(*again, at=22.0, by_id=[ONE]),
            looked(at=24.0, a=[domain()]),
            nova(*again, at=26.0, by_id=[ONE]),
        )
        assert kinds(rule.judge(first, second, settle=SETTLE)) == [
            (Kind.RUNNING_THOUGH_SHUTOFF, POSSIBLE)
        ]
        assert kinds(rule.judge(first, second, settle=10.0)) == [
            (Kind.RUNNING_THOUGH_SHUTOFF, CERTAIN)
        ]

    def test_a_second_copy_that_was_seen_too_shortly(self):
        """A live migration was cancelled, and its destination has still to delete its domain."""
        row = server()
        copies = {"a": [domain()], "b": [domain(state=PAUSED)]}
        first = Round(nova(row), looked(**copies), nova(row, at=20.0))
        second = Round(
            nova(asked(row), at=22.0, by_id=[ONE]),
            looked(at=24.0, **copies),
            nova(asked(row), at=26.0, by_id=[ONE]),
        )
        assert rule.suspects(first).must_last
        assert kinds(rule.judge(first, second, settle=SETTLE)) == [
            (Kind.ACTIVE_ON_TWO_HOSTS, POSSIBLE)
        ]

    def test_a_file_makes_each_finding_possible(self):
        first = Round(nova(server(status="SHUTOFF")), looked(a=[domain()]))
        result = rule.judge(first, settle=SETTLE)
        assert kinds(result) == [(Kind.RUNNING_THOUGH_SHUTOFF, POSSIBLE)]
        assert "file" in result.findings[0].reason
        assert result.complete

    def test_looks_that_overlap_make_no_certain_finding(self):
        first = Round(nova(), looked(a=[domain()]), nova(at=20.0))
        second = Round(
            nova(at=50.0, by_id=[ONE]), looked(at=50.5, a=[domain()]), nova(at=70.0, by_id=[ONE])
        )
        assert kinds(rule.judge(first, second, settle=SETTLE)) == [(Kind.UNKNOWN_TO_NOVA, POSSIBLE)]


class TestMissing:
    """A5: nothing is certain that a missing part could explain, and the part is named."""

    def test_a_cell_that_is_down(self):
        result = audit([], missing=["cell2 is down"], a=[domain()])
        assert kinds(result) == [(Kind.UNKNOWN_TO_NOVA, POSSIBLE)]
        assert "cell2 is down" in result.findings[0].reason
        assert result.incomplete == ("cell2 is down",)

    def test_a_server_of_a_cell_that_is_down_is_known(self):
        row = server(status="UNKNOWN", host=None)
        assert not audit([row], missing=["cell2 is down"], a=[domain()]).findings
        twice = audit([row], missing=["cell2 is down"], a=[domain()], b=[domain()])
        assert kinds(twice) == [(Kind.ACTIVE_ON_TWO_HOSTS, POSSIBLE)]

    def test_a_host_that_failed(self):
        result = audit([server(), server(TWO, host="b")], a=[], b=None)
        assert kinds(result) == [(Kind.MISSING, POSSIBLE)]
        assert result.incomplete == ("no answer from b",)

    def test_the_power_state_of_another_copy_when_home_failed(self):
        """The guest may run at home as Nova says, and the copy that was seen be left behind."""
        result = audit([server()], a=None, b=[domain(state=SHUTOFF)])
        assert (Kind.POWER_STATE, POSSIBLE) in kinds(result)

    def test_a_host_that_fails_the_second_time(self):
        first = Round(nova(), looked(a=[domain()]), nova(at=20.0))
        second = Round(
            nova(at=50.0, by_id=[ONE]), looked(at=60.0, a=None), nova(at=70.0, by_id=[ONE])
        )
        result = rule.judge(first, second, settle=SETTLE)
        assert kinds(result) == [(Kind.UNKNOWN_TO_NOVA, POSSIBLE)]
        assert result.incomplete == ("no answer from a",)

    def test_nova_failing_the_second_time(self):
        first = Round(nova(), looked(a=[domain()]), failure="500")
        result = rule.judge(first, settle=SETTLE, failure="500")
        assert kinds(result) == [(Kind.UNKNOWN_TO_NOVA, POSSIBLE)]
        assert len(result.incomplete) == 2

    def test_a_host_that_was_not_asked_makes_nobody_missing(self):
        assert not audit([server(TWO), server(host="z")], a=[domain(TWO)]).findings

    def test_a_host_that_was_not_asked_may_run_what_is_missing(self):
        result = audit([server(), server(TWO, host="z")], a=[])
        assert kinds(result) == [(Kind.MISSING, POSSIBLE)]
        assert "a host that was not asked may run it, such as z" in result.findings[0].reason
        assert (result.complete, result.hosts_not_asked) == (True, 1)

    def test_a_host_that_was_not_asked_may_have_the_copy_that_counts(self):
        rows = [server(host="z"), server(TWO)]
        result = audit(rows, a=[domain(state=SHUTOFF), domain(TWO)])
        assert kinds(result) == [(Kind.WRONG_HOST, CERTAIN), (Kind.POWER_STATE, POSSIBLE)]
        assert "z, which was not asked, may have the copy" in result.findings[1].reason

    def test_a_host_under_another_name(self):
        rows = [server(host="other"), server(TWO, host="other")]
        result = audit(rows, a=[domain(), domain(TWO)])
        assert result.findings == ()
        assert "other" in result.incomplete[0]
        assert "--hosts" in result.incomplete[0]

    def test_two_hosts_of_one_name(self):
        looks = [replace(each, names=("same",)) for each in looked(a=[domain()], b=[])]
        result = rule.judge(
            Round(nova(server(host="same")), tuple(looks), nova(server(host="same"), at=20.0)),
            settle=SETTLE,
        )
        assert result.findings == ()
        assert "2 hosts have the name same" in result.incomplete[0]

    def test_a_short_name_stands_for_a_long_one(self):
        row = server(host="a.example.org")
        assert not audit([row], a=[domain()], b=[]).incomplete
        assert kinds(audit([row], a=[], b=[domain()])) == [(Kind.WRONG_HOST, CERTAIN)]

    def test_a_short_name_of_two_long_ones_stands_for_neither(self):
        rows = [server(host="a.north"), server(TWO, host="a.south")]
        result = audit(rows, a=[domain(), domain(TWO)])
        assert result.findings == ()
        assert not result.complete

    @pytest.mark.parametrize(
        ("asked_for", "of_nova"), [("n.north", "n.south"), ("10.0.0.1", "10.0.0.2")]
    )
    def test_two_long_names_with_one_beginning_are_two_hosts(self, asked_for, of_nova):
        rows = [server(host=of_nova), server(TWO, host=of_nova)]
        first = Round(nova(*rows), renamed(looked(a=[]), a=asked_for), nova(*rows, at=20.0))
        assert not rule.suspects(first)

    def test_one_copy_by_right_does_not_prove_the_name_of_a_host(self):
        """The host "typo" is Nova's "z", and has the old copy of a resize to b, too."""
        rows = [server(host="z"), server(TWO, "VERIFY_RESIZE", host="b")]
        result = audit(rows, typo=[domain(), domain(TWO, SHUTOFF)], b=[domain(TWO)])
        assert result.findings == ()
        assert "typo" in result.incomplete[0]

    def test_a_name_that_leads_to_another_host(self):
        """The file of hosts has the URI of a at the name of b."""
        result = audit([server(), server(TWO, host="b")], b=[domain()])
        assert kinds(result) == [(Kind.MISSING, POSSIBLE)]
        assert (
            "has none of the servers that Nova has on a host of that name" in result.incomplete[0]
        )

    def test_two_names_that_lead_to_each_other(self):
        result = audit([server(), server(TWO, host="b")], a=[domain(TWO)], b=[domain()])
        assert result.findings == ()
        assert len(result.incomplete) == 2

    def test_a_daemon_without_any_guest_is_most_likely_the_wrong_one(self):
        """As qemu:///session is on a host whose guests are with qemu:///system."""
        result = audit([server(), server(TWO)], a=[])
        assert kinds(result) == [(Kind.MISSING, POSSIBLE)] * 2
        assert not result.complete

    def test_servers_that_come_while_the_hosts_are_asked_prove_no_wrong_name(self):
        first = Round(nova(), looked(a=[]), nova(server(), server(TWO), at=20.0))
        assert rule.judge(first, settle=SETTLE).complete


def test_a_list_that_tells_no_hosts_is_named_as_missing():
    """A5: else a list without --long would look like a clean audit."""
    rows = [server(host=None, hypervisor_hostname=None, has_host=False), server(TWO)]
    (line,) = audit(rows, a=[domain(), domain(TWO)]).incomplete
    assert line.startswith("Nova's list tells no host of 1 server: ")


def test_a_cell_that_is_down_is_not_named_twice():
    down = server(status="UNKNOWN", host=None, hypervisor_hostname=None, has_host=False)
    result = audit([down], missing=["a cell of Nova is down"], a=[domain()])
    assert result.incomplete == ("a cell of Nova is down",)


def test_ten_thousand_servers_that_agree_leave_no_suspect():
    uuids = [UUID(int=each + 1) for each in range(10_000)]
    rows = [server(each, host=f"h{each.int % 20}") for each in uuids]
    hosts = {f"h{n}": [domain(each) for each in uuids if each.int % 20 == n] for n in range(20)}
    result = audit(rows, **hosts)
    assert (result.findings, result.hosts, result.domains) == ((), 20, 10_000)

"""Whether an etcd keeps a host to its own keys: tried on every etcd here; and a fleet's setup."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.churn import populated
from lab.command import refused, run
from lab.etcd import ROOT_PASSWORD, Etcd, etcd_version, free_port
from lab.nodes import nova_instance
from lab.repaired_etcd import RepairedEtcd
from lab.schemas import schema, valid

from guestlist import Inventory
from guestlist.cli.exits import Exit
from guestlist.cli.fleet.check import run as command
from guestlist.fleet.agent import Agent, HostKeys, Stage
from guestlist.fleet.etcd import auth, kv
from guestlist.fleet.etcd.auth import Access, Right
from guestlist.fleet.etcd.connection import Etcd as Client
from guestlist.fleet.etcd.endpoints import Login, Tls
from guestlist.fleet.etcd.errors import Denied, NoSpace, Unreachable
from guestlist.fleet.etcd.span import EVERYTHING, TO_THE_LAST, Span
from guestlist.fleet.etcd.watch_stream import WatchStream
from guestlist.fleet.layout import InvalidName, Layout
from guestlist.fleet.security import tries
from guestlist.fleet.security.checking import check
from guestlist.fleet.security.credentials import Credentials, common_name
from guestlist.fleet.security.findings import Hole, Report, Tried, Verdict, finding
from guestlist.fleet.setup import CannotSetUp, Setup, steps_of, users_of

LAYOUT = Layout("f")
NO_CERTIFICATES = ["--client-cert-auth=false", "--trusted-ca-file="]
NAMES_IGNORED = ["--client-cert-auth=false"]
"""With an authority alone etcd asks for certificates, and takes no name from them."""
OPEN, CLOSED, UNKNOWN = Verdict.OPEN, Verdict.CLOSED, Verdict.UNKNOWN
EVERYWHERE = {Hole.WATCH}
"""Holes of every etcd that Debian has."""
BEFORE_3_5_30 = {Hole.NESTED_PUT, Hole.COMPACTION}


def holes_of(release: str) -> set[Hole]:
    return EVERYWHERE | (BEFORE_3_5_30 if etcd_version(release) < (3, 5, 30) else set())


def tls_of(lab: Etcd, user: str) -> Tls:
    pki = lab.certificate(user)
    return Tls(pki / "cacert.pem", pki / "clientcert.pem", pki / "clientkey.pem")


def options_of(lab: Etcd, user: str) -> list[str]:
    tls = tls_of(lab, user)
    where = ["--endpoints", ",".join(lab.endpoints), "--fleet", "f"]
    return [*where, "--cacert", str(tls.ca), "--cert", str(tls.certificate), "--key", str(tls.key)]


def prepared(root: Client, *hosts: str, readers: tuple[str, ...] = ()) -> None:
    for each in steps_of(root, users_of("f", hosts, readers)):
        each.make(root)


@pytest.fixture(scope="module")
def guarded(needs_etcd: str) -> Iterator[Etcd]:
    """An etcd with TLS and authentication, and the users of a fleet of two hosts."""
    with Etcd(needs_etcd, tls=True, auth=True) as lab:
        with Client(lab.endpoints, tls=tls_of(lab, "root")) as root:
            prepared(root, "n1", "n2", readers=("viewer",))
        yield lab


@pytest.fixture
def root(guarded: Etcd) -> Iterator[Client]:
    with Client(guarded.endpoints, tls=tls_of(guarded, "root")) as client:
        yield client


def checked(lab: Etcd, user: str = "n1", host: str | None = None) -> Report:
    return check(lab.endpoints, Credentials(tls_of(lab, user)), LAYOUT, host or user)


def open_in(report: Report) -> set[Hole]:
    return {each.hole for each in report.open}


def verdicts(report: Report) -> dict[Hole, Verdict]:
    return {each.hole: each.verdict for each in report.findings}


def everything_in(client: Client) -> tuple[object, ...]:
    """All that a check could leave behind: keys with their revisions, users, roles, rights."""
    page = kv.read(client, EVERYTHING)
    rows = [(row.key, row.value, row.mod_revision) for row in page.rows]
    users = {name: auth.roles_of(client, name) for name in auth.users(client)}
    roles = {name: auth.rights_of(client, name) for name in auth.roles(client)}
    return page.revision, rows, users, roles


# The holes of a store that is set up


def test_every_hole_is_found_on_the_etcds_that_have_it_and_no_other(guarded, root):
    kv.put(root, LAYOUT.live("n2"), b"{}")
    before = everything_in(root)
    report = checked(guarded)
    assert open_in(report) == holes_of(guarded.release)
    assert {each.hole for each in report.unknown} <= {Hole.NO_COMPACTION}
    assert everything_in(root) == before
    assert report.user == "n1"
    assert all(each.members == tuple(guarded.endpoints) for each in report.findings)


def test_what_such_a_watch_grants_is_the_news_of_other_hosts(guarded, root):
    after = kv.read(root, EVERYTHING).revision
    kv.put(root, LAYOUT.live("n2"), b"{}")
    behind = Span(LAYOUT.domains("n1").start, TO_THE_LAST)
    with Client(guarded.endpoints, tls=tls_of(guarded, "n1")) as own:
        with pytest.raises(Denied):
            kv.read(own, behind)
        with WatchStream(own, behind, after + 1) as stream:
            assert [each.kv.key for each in next(stream).events] == [LAYOUT.live("n2")]


@contextlib.contextmanager
def repaired(lab: Etcd) -> Iterator[RepairedEtcd]:
    """The etcd as the user n1 would see it if it had no holes."""
    own = LAYOUT.own("n1")
    prefixes = tuple(span.start for span in own)
    with RepairedEtcd(
        lab.endpoints[0],
        lab.certificate("n1"),
        lab.folder / "server",
        lambda key: key.startswith(prefixes),
    ) as relay:
        yield relay


def test_no_hole_is_found_where_every_attempt_is_refused(guarded):
    with repaired(guarded) as relay:
        credentials = Credentials(tls_of(guarded, "n1"))
        report = check([relay.endpoint], credentials, LAYOUT, "n1")
    assert report.open == ()
    assert {Hole.WATCH, Hole.NESTED_PUT, Hole.COMPACTION} <= {
        each.hole for each in report.findings if each.verdict is CLOSED
    }
    assert set(relay.refused) == {"Watch", "Txn", "Compact"}


def test_one_member_with_a_hole_is_enough(guarded):
    with repaired(guarded) as relay:
        members = [relay.endpoint, *guarded.endpoints]
        report = check(members, Credentials(tls_of(guarded, "n1")), LAYOUT, "n1")
    found = {each.hole: each for each in report.findings}
    assert found[Hole.WATCH].verdict is OPEN
    assert found[Hole.WATCH].members == tuple(guarded.endpoints)


def test_a_member_that_does_not_answer_is_unknown_and_never_closed(guarded):
    silent = f"127.0.0.1:{free_port()}"
    credentials = Credentials(tls_of(guarded, "n1"), timeout=0.5)
    report = check([silent], credentials, LAYOUT, "n1")
    assert set(verdicts(report).values()) == {UNKNOWN}
    both = check([silent, *guarded.endpoints], credentials, LAYOUT, "n1")
    assert CLOSED not in verdicts(both).values()
    assert open_in(both) == holes_of(guarded.release)


def test_a_member_that_is_frozen_is_unknown(guarded):
    guarded.members[0].freeze()
    try:
        credentials = Credentials(tls_of(guarded, "n1"), timeout=0.5)
        report = check(guarded.endpoints, credentials, LAYOUT, "n1")
        with credentials.without_login(guarded.endpoints[0]) as client, pytest.raises(Unreachable):
            tries._is_answered(client)
    finally:
        guarded.members[0].thaw()
    assert set(verdicts(report).values()) == {UNKNOWN}


def test_root_and_strangers_learn_nothing_of_the_rights_of_hosts(guarded):
    of_the_user = {Hole.WATCH, Hole.NESTED_PUT, Hole.COMPACTION, Hole.READS_OTHERS, Hole.WIDE_ROLE}
    for user, host, why in (
        ("root", "n1", "role root"),
        ("stranger", "n1", "not the agent of host 'n1'"),
        ("n1", "n2", "not the agent of host 'n2'"),
    ):
        report = checked(guarded, user, host)
        found = {each.hole: each for each in report.findings}
        assert {found[hole].verdict for hole in of_the_user} == {UNKNOWN}
        assert all(why in found[hole].why for hole in of_the_user)
        assert found[Hole.NO_AUTHENTICATION].verdict is CLOSED


def test_rights_beyond_the_host_are_found(guarded, root):
    prepared(root, "wide")
    extra = Right(Access.READ, LAYOUT.domains("n2"))
    auth.add_role(root, "extra")
    auth.grant(root, "extra", extra)
    auth.grant_role(root, "wide", "extra")
    found = {each.hole: each for each in checked(guarded, "wide").open}
    assert {Hole.READS_OTHERS, Hole.WIDE_ROLE} <= set(found)
    assert "/dom/n2/" in found[Hole.READS_OTHERS].why
    auth.grant(root, "extra", Right(Access.WRITE, LAYOUT.everything))
    report = checked(guarded, "wide")
    assert verdicts(report)[Hole.NESTED_PUT] is UNKNOWN
    auth.delete_role(root, "extra")
    assert open_in(checked(guarded, "wide")) == holes_of(guarded.release)


def test_a_reader_is_told_that_it_reads_others(guarded):
    report = checked(guarded, "viewer", "n1")
    assert Hole.READS_OTHERS in open_in(report)


def test_a_history_that_is_kept_is_found(guarded, root, monkeypatch):
    monkeypatch.setattr(tries, "MOST_HISTORY", 3)
    for _ in range(5):
        revision = kv.put(root, LAYOUT.live("n2"), b"{}")
    assert Hole.NO_COMPACTION in open_in(checked(guarded))
    kv.compact(root, revision)
    assert verdicts(checked(guarded))[Hole.NO_COMPACTION] is CLOSED


# The holes of other stores


def test_a_store_without_tls_and_authentication_says_so_first(needs_etcd):
    with Etcd(needs_etcd) as lab:
        report = check(lab.endpoints, Credentials(None), LAYOUT, "n1")
        assert open_in(report) == {
            Hole.PLAIN_TEXT,
            Hole.NO_CERTIFICATES,
            Hole.NO_AUTHENTICATION,
        }
        assert verdicts(report)[Hole.WATCH] is UNKNOWN
        with Client(lab.endpoints) as client:
            assert kv.read(client, EVERYTHING).revision == 1


def test_tls_without_client_certificates_is_found(needs_etcd):
    options = [*NO_CERTIFICATES, "--advertise-client-urls=http://127.0.0.1:1"]
    with Etcd(needs_etcd, tls=True, auth=True, options=options) as lab:
        login = Login("root", ROOT_PASSWORD)
        with Client(lab.endpoints, tls=Tls(tls_of(lab, "root").ca), login=login) as root:
            prepared(root, "n1")
            auth.delete_user(root, "n1")
            auth.add_user(root, "n1", "word")
            auth.grant_role(root, "n1", "guestlist/f/host/n1")
        credentials = Credentials(Tls(tls_of(lab, "n1").ca), Login("n1", "word"))
        report = check(lab.endpoints, credentials, LAYOUT, "n1")
        found = {each.hole: each for each in report.open}
        assert set(found) == {Hole.NO_CERTIFICATES, Hole.PLAIN_TEXT, *holes_of(needs_etcd)}
        assert "http://127.0.0.1:1" in found[Hole.PLAIN_TEXT].why


def fill(client: Client) -> None:
    for n in range(100):
        kv.put(client, b"filler/%d" % n, b"x" * 100_000)


def test_a_store_that_is_full_is_found(needs_etcd):
    with Etcd(needs_etcd, quota=1 << 20) as lab, Client(lab.endpoints) as client:
        with pytest.raises(NoSpace):
            fill(client)
        assert Hole.QUOTA in open_in(check(lab.endpoints, Credentials(None), LAYOUT, "n1"))


# Who a client is


def test_the_name_in_a_certificate_is_the_user(guarded):
    pki, other = guarded.certificate("node7.example"), guarded.certificate("n1")
    assert common_name(pki / "clientcert.pem", pki / "clientkey.pem") == "node7.example"
    with pytest.raises(ValueError, match="cannot be used with"):
        common_name(pki / "clientcert.pem", other / "clientkey.pem")
    assert Credentials(None).user is None
    assert Credentials(None, Login("n1", "word")).user == "n1"


def test_attempts_at_several_members_say_the_worst():
    said = {each: Tried(each, each.value) for each in Verdict}
    everywhere = {"a": said[CLOSED], "b": said[UNKNOWN], "c": said[OPEN]}
    assert finding(Hole.WATCH, everywhere)[1:] == (OPEN, ("c",), "open")
    assert finding(Hole.WATCH, {"a": said[CLOSED], "b": said[UNKNOWN]})[1:3] == (UNKNOWN, ("b",))
    assert finding(Hole.WATCH, {"a": said[CLOSED]})[1] is CLOSED
    assert finding(Hole.WATCH, {})[1] is UNKNOWN


def test_rights_within_the_own_keys_are_not_beyond_them():
    own = LAYOUT.own("n1")
    part = Span(own[2].start + b"a")
    inside = [Right(Access.READWRITE, span) for span in (*own, part)]
    outside = [
        Right(Access.READ, Span(own[2].start, b"\0")),
        Right(Access.WRITE, Span(own[0].start, own[0].start + b"\xff")),
        Right(Access.READ, EVERYTHING),
    ]
    assert tries.beyond([*inside, *outside], own) == outside


# The command: check


def test_the_command_names_each_hole_in_one_line(guarded):
    ended = run("fleet", "check", *options_of(guarded, "n1"))
    assert ended.returncode == Exit.HOLES, ended.stderr
    lines = ended.stdout.splitlines()
    assert len(lines) == len(Hole)
    holes = {line.split()[1].rstrip(":") for line in lines if line.startswith("HOLE ")}
    assert holes == {each.label for each in open_in(checked(guarded))}
    assert any(
        "GHSA-xg4h-6gfc-h4m8" in line and "Remedy: use etcd 3.5.33" in line for line in lines
    )
    assert ended.stderr.startswith(f"guestlist: {len(holes)} hole")


def test_the_exit_status_tells_no_hole_from_a_check_that_was_not_made(guarded, root):
    for _ in range(3):
        revision = kv.put(root, LAYOUT.live("n2"), b"{}")
    kv.compact(root, revision)
    with repaired(guarded) as relay:
        options = [*options_of(guarded, "n1"), "--endpoints", relay.endpoint, "-f", "json"]
        ended = run("fleet", "check", *options)
    assert ended.returncode == Exit.PARTIAL, ended.stderr
    unknown = {
        each["hole"] for each in valid("fleet-check", ended.stdout) if each["verdict"] == "unknown"
    }
    assert unknown == {"quota"}  # the stand-in shows no metrics
    assert ended.stderr == "guestlist: 0 holes; 1 check could not be made\n"


def test_the_status_is_0_only_if_every_hole_is_closed(capfd):
    closed = [finding(hole, {"m": Tried(CLOSED, "refused")}) for hole in Hole]
    assert command.verdict(Report("n1", tuple(closed))) is Exit.OK
    one = finding(Hole.QUOTA, {"m": Tried(UNKNOWN, "no answer")})
    assert command.verdict(Report("n1", (*closed[:-1], one))) is Exit.PARTIAL
    one = finding(Hole.QUOTA, {"m": Tried(OPEN, "full")})
    assert command.verdict(Report("n1", (*closed[:-1], one))) is Exit.HOLES


def test_the_schema_knows_every_hole():
    known = schema("fleet-check")["items"]["properties"]
    assert known["hole"]["enum"] == [each.label for each in Hole]
    assert known["verdict"]["enum"] == [each.value for each in Verdict]


def test_the_command_refuses_what_cannot_be_checked(guarded, tmp_path):
    assert "which fleet?" in refused("fleet", "check")
    ended = run("fleet", "check", "--endpoints", "127.0.0.1:1")
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, "")
    assert "Give --host" in ended.stderr
    ended = run("fleet", "check", *options_of(guarded, "n1"), "--cacert", str(tmp_path / "none"))
    assert ended.returncode == Exit.FAILED
    assert "cannot name a host" in refused(
        "fleet", "check", *options_of(guarded, "n1"), "--host", "a/b"
    )


# Setup


@pytest.fixture
def fresh(needs_etcd: str) -> Iterator[Etcd]:
    """An etcd with TLS, and without authentication."""
    with Etcd(needs_etcd, tls=True) as lab:
        yield lab


def set_up(lab: Etcd, *words: str, user: str = "root") -> subprocess.CompletedProcess[str]:
    return run("fleet", "setup", *words, *options_of(lab, user))


def test_setup_refuses_a_store_with_holes_and_leaves_it_as_it_was(fresh):
    with Client(fresh.endpoints, tls=tls_of(fresh, "root")) as client:
        before = everything_in(client)
        ended = set_up(fresh, "n1")
        assert ended.returncode == Exit.HOLES, ended.stderr
        assert ended.stdout == ""
        assert "GHSA-xg4h-6gfc-h4m8" in ended.stderr
        assert "nothing was set up" in ended.stderr
        assert not tries.is_locked(client)
        assert everything_in(client) == before


def test_setup_adds_no_host_to_a_store_with_holes(guarded, root):
    before = everything_in(root)
    assert set_up(guarded, "n3").returncode == Exit.HOLES
    assert everything_in(root) == before


def test_setup_makes_a_fleet_once_and_says_what_it_would_do(fresh):
    dry = set_up(fresh, "n1", "n2", "--reader", "viewer", "--dry-run")
    assert dry.returncode == Exit.OK, dry.stderr
    with Client(fresh.endpoints, tls=tls_of(fresh, "root")) as client:
        assert auth.users(client) == ()
    done = set_up(fresh, "n1", "n2", "--reader", "viewer", "--insecure")
    assert done.returncode == Exit.OK, done.stderr
    assert [f"would {each}" for each in done.stdout.splitlines()] == dry.stdout.splitlines()
    again = set_up(fresh, "n1", "n2", "--reader", "viewer", "--insecure")
    assert (again.returncode, again.stdout) == (Exit.OK, "nothing is missing\n")
    with Client(fresh.endpoints, tls=tls_of(fresh, "root")) as root:
        assert set(auth.users(root)) == {"root", "n1", "n2", "viewer"}
        roles = {"root", "guestlist/f/host/n1", "guestlist/f/host/n2", "guestlist/f/reader"}
        assert set(auth.roles(root)) == roles
        rights = auth.rights_of(root, "guestlist/f/host/n1")
        assert {each.span for each in rights} == set(LAYOUT.own("n1"))
    assert open_in(checked(fresh)) == holes_of(fresh.release)
    with Client(fresh.endpoints, tls=tls_of(fresh, "viewer")) as viewer:
        kv.read(viewer, LAYOUT.everything)


def test_setup_takes_away_what_its_own_roles_have_too_much(guarded, root):
    prepared(root, "n9")
    auth.grant(root, "guestlist/f/host/n9", Right(Access.READ, EVERYTHING))
    auth.revoke(root, "guestlist/f/host/n9", Span(LAYOUT.live("n9")))
    steps = steps_of(root, users_of("f", ["n9"], []))
    assert [each.words for each in steps] == [
        "take READ of every key from role guestlist/f/host/n9",
        "give role guestlist/f/host/n9 READWRITE of '/guestlist/v1/f/live/n9'",
    ]
    prepared(root, "n9")
    assert steps_of(root, users_of("f", ["n9"], [])) == []


def test_setup_refuses_plain_text_and_others_than_root(guarded, fresh):
    plain = run("fleet", "setup", "n1", "--endpoints", fresh.endpoints[0].replace("https://", ""))
    assert (plain.returncode, plain.stdout) == (Exit.FAILED, "")
    assert "plain text" in plain.stderr
    for lab in (guarded, fresh):
        ended = set_up(lab, "n1", "--insecure", user="n1")
        assert ended.returncode == Exit.FAILED
        assert "as n1: give a certificate with the common name root" in ended.stderr
    with Client(fresh.endpoints, tls=tls_of(fresh, "n1")) as client:
        assert not tries.is_locked(client)


@pytest.mark.parametrize("options", [NO_CERTIFICATES, NAMES_IGNORED])
def test_setup_locks_out_no_root_whose_certificate_etcd_ignores(needs_etcd, options):
    with Etcd(needs_etcd, tls=True, options=options) as lab:
        ended = set_up(lab, "n1", "--insecure")
        assert ended.returncode == Exit.FAILED
        assert "does not take these credentials for root's" in ended.stderr
        with Client(lab.endpoints, tls=tls_of(lab, "root")) as client:
            assert not tries.is_locked(client)
            assert (auth.users(client), auth.roles(client)) == ((), ())
        words = ["n1", "--insecure", *options_of(lab, "root"), "--user", "root"]
        ended = run("fleet", "setup", *words, ETCDCTL_PASSWORD="first")  # noqa: S106
        assert ended.returncode == Exit.OK, ended.stderr
        login = Login("root", "first")
        with Client(lab.endpoints, tls=tls_of(lab, "root"), login=login) as root:
            assert set(auth.users(root)) == {"root", "n1"}


def test_a_setup_that_fails_is_undone(fresh, monkeypatch):
    credentials = Credentials(tls_of(fresh, "root"))

    def broken(*_: object, **__: object) -> Report:
        raise NoSpace("the check fails")

    monkeypatch.setattr("guestlist.fleet.setup.check", broken)
    with Setup(fresh.endpoints, credentials, LAYOUT, users_of("f", ["n1"], [])) as setup:
        with pytest.raises(NoSpace):
            setup.lock()
    with Client(fresh.endpoints, tls=tls_of(fresh, "root")) as client:
        assert not tries.is_locked(client)
        assert (auth.users(client), auth.roles(client)) == ((), ())


def test_names_that_cannot_be_users_are_refused():
    with pytest.raises(InvalidName):
        users_of("f", ["a/b"], [])
    with pytest.raises(CannotSetUp, match="is a host and a reader"):
        users_of("f", ["n1"], ["n1"])
    with pytest.raises(CannotSetUp, match="'root' is"):
        users_of("f", ["root"], [])
    assert [each.name for each in users_of("f", ["n1", "n1"], [])] == ["n1"]


def test_setup_of_three_members_knows_the_trial_user_at_each(needs_etcd):
    with Etcd(needs_etcd, tls=True, members=3) as lab:
        credentials = Credentials(tls_of(lab, "root"))
        with Setup(lab.endpoints, credentials, LAYOUT, users_of("f", ["n1"], [])) as setup:
            report = setup.lock()
            assert open_in(report) == holes_of(needs_etcd)
            assert {each.hole for each in report.unknown} == {Hole.NO_COMPACTION}
            assert all(set(each.members) == set(lab.endpoints) for each in report.findings)
            assert [*setup.make()]


# An agent with these rights


def test_an_agent_needs_no_right_beyond_the_keys_of_its_host(daemon, guarded, root):
    keys = HostKeys("f", "n1")
    with populated(daemon.uri(), [nova_instance(n) for n in range(3)]) as connection:
        with contextlib.closing(Inventory(daemon.uri())) as live:
            etcd = Client(guarded.endpoints, tls=tls_of(guarded, "n1"))
            with Agent(live, etcd, keys, ttl=2, hold=4.0) as agent:
                agent.wait_for(lambda state: state.stage is Stage.SYNCED and not state.waiting, 30)
                before = agent.state
                connection.lookupByUUIDString(str(nova_instance(1).uuid)).destroy()
                agent.wait_for(lambda state: state.writes > before.writes, 30)
                agent.wait_for(lambda state: state.kept > before.kept + 2, 30)
                assert kv.read(root, keys.domains, count_only=True).total == 3
                assert open_in(checked(guarded)) == holes_of(guarded.release)
                assert agent.state.stage is Stage.SYNCED


# The certificates of the documentation


def test_the_documented_certificates_make_a_fleet(needs_etcd, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing")
    page = Path(__file__).parents[1] / "docs" / "fleet-security.md"
    script = page.read_text().partition("```sh\n")[2].partition("```")[0]
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True, capture_output=True)
    ca = tmp_path / "ca.pem"
    member = [f"--cert-file={tmp_path / 'etcd1.pem'}", f"--key-file={tmp_path / 'etcd1.key'}"]
    lab = Etcd(needs_etcd, tls=True, options=[*member, f"--trusted-ca-file={ca}"])
    for user in ("root", "node1"):
        pki = lab.folder / f"client-{user}"
        pki.mkdir()
        shutil.copy(ca, pki / "cacert.pem")
        shutil.copy(tmp_path / f"{user}.pem", pki / "clientcert.pem")
        shutil.copy(tmp_path / f"{user}.key", pki / "clientkey.pem")
    with lab:
        assert set_up(lab, "node1", "--insecure").returncode == Exit.OK
        report = checked(lab, "node1")
        assert open_in(report) == holes_of(needs_etcd)
        assert {each.hole for each in report.unknown} == {Hole.NO_COMPACTION}

"""`guestlist ls`: which domains, in which order and format, and what it says if there are none.

On hosts inside the command's own process; on a private daemon if a test needs one.
"""

import csv
import io
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from lab.command import NO_HOST, TEST_HOST, run, served
from lab.daemon import Daemon
from lab.nodes import Domain, appliance, handmade, node, nova_instance
from lab.proxy import Proxy
from lab.qemu import guests

from guestlist.cli.exits import Exit

RUNNING = [nova_instance(1), nova_instance(2, paused=True)]
SHUT_OFF = nova_instance(3, active=False)
OTHERS = [appliance(1), handmade(0), handmade(1, active=False)]
HOST = [*RUNNING, SHUT_OFF, *OTHERS]


@pytest.fixture
def host(tmp_path: Path) -> str:
    return served(tmp_path, HOST)


def names(*words: str) -> set[str]:
    ended = run("ls", "-q", *words)
    assert ended.returncode == Exit.OK
    return set(ended.stdout.split())


# Which domains


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], RUNNING),
        (["--inactive"], [*RUNNING, SHUT_OFF]),
        (["--foreign"], [*RUNNING, *OTHERS[:2]]),
        (["--inactive", "--foreign"], HOST),
        (["--dom0"], RUNNING),
        (["-a"], HOST),
        (["--all"], HOST),
    ],
)
def test_options_widen_the_list(host: str, options: list[str], expected: list[Domain]) -> None:
    assert names("-c", host, *options) == {domain.name for domain in expected}


def test_domain_0_waits_for_its_option(proxy: Proxy) -> None:
    proxy.set_id(OTHERS[1].name, 0)
    uri = proxy.uri(node([RUNNING[0], OTHERS[1]]))
    assert names("-c", uri, "--foreign") == {RUNNING[0].name}
    assert names("-c", uri, "--dom0") == {RUNNING[0].name, OTHERS[1].name}
    listed = json.loads(run("ls", "-c", uri, "-a", "-f", "json").stdout)
    assert {one["launcher"]: one["id"] for one in listed} == {"dom0": 0, "nova": 1}


def test_a_template_and_a_demand_for_proof(tmp_path: Path) -> None:
    """By a name of another shape than the default, or by the metadata alone."""
    impostor = nova_instance(1, with_metadata=False)
    ours = nova_instance(2, template="vm-%d", with_metadata=False)
    proven = nova_instance(3)
    uri = served(tmp_path, [impostor, ours, proven])
    assert names("-c", uri) == {impostor.name, proven.name}
    assert names("-c", uri, "--name-template", "vm-%d") == {ours.name, proven.name}
    assert names("-c", uri, "--verify") == {proven.name}


def test_one_call_lists(proxy: Proxy) -> None:
    names("-c", proxy.uri(node([*RUNNING, SHUT_OFF, appliance(1)])))
    about_domains = [call for call in proxy.calls if "DOMAIN" in call]
    assert about_domains == ["CONNECT_LIST_ALL_DOMAINS"]


def test_one_call_lists_and_tells_the_states(proxy: Proxy) -> None:
    run("ls", "-c", proxy.uri(node([*RUNNING, SHUT_OFF, appliance(1)])))
    about_domains = [call for call in proxy.calls if "DOMAIN" in call]
    assert about_domains == ["CONNECT_GET_ALL_DOMAIN_STATS"]


# Order and format


def test_a_table_as_virsh_would_have_it(host: str) -> None:
    ended = run("ls", "--inactive", "-c", host)
    header, *rows = ended.stdout.splitlines()
    assert header.split() == ["ID", "NAME", "STATE", "UUID"]
    assert rows == [
        f"1   instance-00000001  running   {RUNNING[0].uuid}",
        f"2   instance-00000002  paused    {RUNNING[1].uuid}",
        f"-   instance-00000003  shut off  {SHUT_OFF.uuid}",
    ]
    assert ended.stderr == ""


@pytest.mark.parametrize("option", ["-a", "--foreign", "--dom0"])
def test_a_table_of_more_than_ours_tells_the_launcher(host: str, option: str) -> None:
    header, *rows = run("ls", option, "-c", host).stdout.splitlines()
    assert header.split() == ["ID", "NAME", "STATE", "UUID", "LAUNCHER"]
    assert all(row.endswith(("nova", "libguestfs", "other")) for row in rows)


def test_json_yaml_and_csv_carry_the_same(host: str) -> None:
    def listed(form: str) -> str:
        return run("ls", "-a", "-f", form, "-c", host).stdout

    records = json.loads(listed("json"))
    assert records[-1] == {
        "host": host,
        "id": None,
        "name": "jenkins",
        "uuid": str(OTHERS[2].uuid),
        "state": "shut off",
        "active": False,
        "launcher": "other",
    }
    assert [list(one) for one in records] == [list(records[0])] * len(HOST)
    assert yaml.safe_load(listed("yaml")) == records
    assert list(csv.DictReader(io.StringIO(listed("csv")))) == [
        {
            **one,
            "id": "" if one["id"] is None else str(one["id"]),
            "active": "true" if one["active"] else "false",
        }
        for one in records
    ]


def test_names_and_uuids_are_a_line_each(host: str) -> None:
    ours = sorted(RUNNING, key=lambda domain: domain.name)
    for words, lines in {
        ("-q",): [domain.name for domain in ours],
        ("--quiet",): [domain.name for domain in ours],
        ("-f", "name"): [domain.name for domain in ours],
        ("-o", "uuid"): [str(domain.uuid) for domain in ours],
        ("--format", "uuid"): [str(domain.uuid) for domain in ours],
    }.items():
        assert run("ls", "-c", host, *words).stdout.splitlines() == lines


ODD_NAMES = ["two words", "it's", 'say "x"', "-n", "--version", "a\\b", "{}"]


@pytest.mark.parametrize("option", ["-q0", "-0q", "-0fname"])
def test_xargs_takes_every_name(tmp_path: Path, option: str) -> None:
    """With -0, as in --help and the README; lines break at blanks, quotes and backslashes."""
    uri = served(
        tmp_path, [replace(nova_instance(n), name=name) for n, name in enumerate(ODD_NAMES)]
    )
    listed = run("ls", "-a", option, "-c", uri).stdout
    assert sorted(listed.removesuffix("\0").split("\0")) == sorted(ODD_NAMES)
    told = subprocess.run(
        ["xargs", "-r", "-0", "-I", "NAME", "printf", "%s\n", "--domain=NAME"],
        input=listed,
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(told.stdout.splitlines()) == sorted(f"--domain={name}" for name in ODD_NAMES)


def test_uuids_end_with_nul_as_well(host: str) -> None:
    listed = run("ls", "-0", "-f", "uuid", "-c", host).stdout
    assert listed == "".join(f"{domain.uuid}\0" for domain in RUNNING)


@pytest.mark.parametrize("form", ["table", "csv"])
def test_columns_are_chosen_in_any_case_and_shown_once(host: str, form: str) -> None:
    words = ("ls", "-c", host, "-f", form, "--columns", "State,name,STATE")
    header, *_ = run(*words).stdout.splitlines()
    assert header.lower().replace(",", " ").split() == ["state", "name"]


def test_columns_restrict_json(host: str) -> None:
    listed = json.loads(run("ls", "-c", host, "-f", "json", "--columns", "uuid,active").stdout)
    assert listed == [{"uuid": str(domain.uuid), "active": True} for domain in RUNNING]


def test_columns_help_names_every_key(host: str) -> None:
    told = [line.split()[0] for line in run("ls", "--columns", "help").stdout.splitlines()]
    listed = json.loads(run("ls", "-l", "-c", host, "-f", "json").stdout)
    assert told == list(listed[0])


@pytest.mark.parametrize("form", ["table", "csv"])
def test_headers_can_be_left_out(host: str, form: str) -> None:
    words = ("ls", "-c", host, "-f", form)
    with_header = [line.split() for line in run(*words).stdout.splitlines()]
    without = [line.split() for line in run(*words, "--no-headers").stdout.splitlines()]
    assert without == with_header[1:]


def test_order_is_by_name_unless_said_otherwise(host: str) -> None:
    def order(*words: str) -> list[object]:
        listed = json.loads(run("ls", "-a", "-f", "json", "-c", host, *words).stdout)
        return [one[words[-1] if words else "name"] for one in listed]

    by_name = sorted(domain.name for domain in HOST)
    assert order() == by_name
    assert order("--sort", "uuid") == sorted(str(domain.uuid) for domain in HOST)
    assert order("--sort", "id") == [1, 2, 3, 4, None, None]
    assert order("--sort", "state") == ["paused", *["running"] * 3, *["shut off"] * 2]


# Of which hosts


def test_several_hosts_in_the_order_given(tmp_path: Path) -> None:
    second, first = served(tmp_path, HOST, "a"), served(tmp_path, HOST, "b")
    ended = run("ls", "-c", first, "-c", second)
    header, *rows = ended.stdout.splitlines()
    assert header.split() == ["HOST", "ID", "NAME", "STATE", "UUID"]
    assert [row.split()[0] for row in rows] == [first, first, second, second]
    assert (ended.returncode, ended.stderr) == (Exit.OK, "")


def test_a_host_given_twice_is_asked_once_and_that_is_said(host: str) -> None:
    ended = run("ls", "-c", host, "-c", host)
    assert ended.stdout == run("ls", "-c", host).stdout
    assert ended.stderr == f"guestlist: {host} was given 2 times and is asked once\n"
    assert ended.returncode == Exit.OK


OFF = nova_instance(1, active=False)


def test_two_uris_of_one_host_are_said_to_be_one(qemu_daemon: Daemon) -> None:
    """By the machine's UUID, which is asked for only if two answers have a domain in common."""
    with Proxy(qemu_daemon) as proxy, guests(qemu_daemon.qemu_uri, [OFF]):
        uris = ["-c", qemu_daemon.qemu_uri, "-c", proxy.qemu_uri]
        ended = run("ls", "--inactive", "-q", *uris)
        assert (ended.returncode, ended.stdout) == (Exit.OK, "instance-00000001\n" * 2)
        assert ended.stderr == (
            f"guestlist: {proxy.qemu_uri} is the same host as {qemu_daemon.qemu_uri}: "
            "its domains are listed twice\n"
        )
        rows = run("usage", *uris).stdout.splitlines()
        assert rows[-1].split()[:4] == ["1", "host", "1", "instance"]
        assert rows[-1].split()[4:] == rows[-2].split()[-len(rows[-1].split()[4:]) :]
        assert rows[-2].split()[1:3] == ["1", "instance"]
        said = run("usage", *uris, "-f", "json").stderr
        assert "shown twice, and counted once in the total over hosts" in said


def test_one_host_is_not_asked_who_it_is(proxy: Proxy, host: str) -> None:
    run("ls", "-c", proxy.uri(node(RUNNING)), "-c", host)
    assert "CONNECT_GET_CAPABILITIES" in proxy.calls  # they have a domain in common
    proxy.clear()
    run("ls", "-c", proxy.uri(node(RUNNING)))
    run("ls", "-c", proxy.uri(node(OTHERS)), "-c", host)
    assert "CONNECT_GET_CAPABILITIES" not in proxy.calls


def test_a_host_that_fails_is_told_beside_the_others(host: str) -> None:
    ended = run("ls", "-q", "-c", NO_HOST, "-c", host, "-c", TEST_HOST, "--foreign")
    assert ended.returncode == Exit.PARTIAL
    assert ended.stdout.splitlines()[-1] == "test"
    assert ended.stderr.startswith(f"guestlist: cannot connect to {NO_HOST}: Failed to connect")
    assert ended.stderr.count("\n") == 1


def test_without_a_host_libvirt_chooses_and_we_tell_whom(tmp_path: Path) -> None:
    ended = run("ls", "-a", "-f", "json", LIBVIRT_DEFAULT_URI=TEST_HOST)
    assert [one["host"] for one in json.loads(ended.stdout)] == [TEST_HOST]


# Failures


@pytest.mark.parametrize("form", ["table", "json", "name"])
def test_a_failure_is_never_an_empty_list(form: str) -> None:
    ended = run("ls", "-f", form, "-c", NO_HOST)
    assert (ended.returncode, ended.stdout) == (Exit.UNREACHABLE, "")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "uri", ["nonsense", "nonsense://host/x", "test+morse:///default", "test+ssh://host.invalid/x"]
)
def test_a_uri_that_leads_nowhere_is_one_line(uri: str) -> None:
    ended = run("ls", "-c", uri)
    assert (ended.returncode, ended.stdout) == (Exit.UNREACHABLE, "")
    assert ended.stderr.startswith(f"guestlist: cannot connect to {uri}: ")
    assert ended.stderr.count("\n") == 1


def test_a_lost_connection(proxy: Proxy) -> None:
    proxy.drop_on("CONNECT_GET_ALL_DOMAIN_STATS")
    ended = run("ls", "-c", proxy.uri(node(HOST)))
    assert (ended.returncode, ended.stdout) == (Exit.LOST, "")
    assert "the connection is lost, nothing was answered" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("code", "status"), [(88, Exit.DENIED), (29, Exit.DENIED), (1, Exit.FAILED), (9, Exit.FAILED)]
)
def test_libvirts_errors_have_their_status(proxy: Proxy, code: int, status: Exit) -> None:
    proxy.fail("CONNECT_GET_ALL_DOMAIN_STATS", code)
    ended = run("ls", "-c", proxy.uri(node(HOST)))
    assert (ended.returncode, ended.stdout) == (status, "")
    assert "the laboratory says no" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_daemon_that_speaks_nonsense(proxy: Proxy) -> None:
    proxy.garbage()
    ended = run("ls", "-c", proxy.uri(node(HOST)))
    assert (ended.returncode, ended.stdout) == (Exit.UNREACHABLE, "")
    assert ended.stderr.count("\n") == 1


def test_an_old_daemon_is_walked_with_a_warning(proxy: Proxy) -> None:
    proxy.older_daemon("0.9.12")
    ended = run("ls", "-q", "-c", proxy.uri(node(HOST)))
    assert (ended.returncode, ended.stdout.split()) == (Exit.OK, [one.name for one in RUNNING])
    assert ended.stderr.startswith("guestlist: warning: ")
    assert "upgrade to libvirt 0.9.13 or newer" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_verbose_shows_libvirts_words_and_the_traceback() -> None:
    ended = run("ls", "-v", "-c", NO_HOST)
    assert "guestlist: debug: libvirt: Failed to connect socket" in ended.stderr
    assert "Traceback (most recent call last)" in ended.stderr
    assert all(line.startswith("guestlist: ") for line in ended.stderr.splitlines())
    assert ended.returncode == Exit.UNREACHABLE


# No domain


def test_what_is_hidden_is_said(tmp_path: Path) -> None:
    uri = served(tmp_path, [SHUT_OFF, *OTHERS])
    ended = run("ls", "-q", "-c", uri)
    assert (ended.returncode, ended.stdout) == (Exit.OK, "")
    assert ended.stderr == (
        f"guestlist: {uri}: nothing matches; 4 domains are hidden: "
        "2 launched by others (--foreign), 1 not running (--inactive), "
        "1 not running and launched by others (--inactive --foreign); -a shows all\n"
    )


def test_a_host_without_domains_is_an_answer(tmp_path: Path) -> None:
    uri = served(tmp_path, [])
    for options in ([], ["-a"]):
        ended = run("ls", "-f", "json", "-c", uri, *options)
        assert (ended.returncode, json.loads(ended.stdout)) == (Exit.OK, [])
        assert ended.stderr == f"guestlist: {uri}: there are no domains on this host\n"


def test_each_host_tells_what_it_hides(tmp_path: Path, host: str) -> None:
    other = served(tmp_path, [SHUT_OFF], "other")
    ended = run("ls", "-c", host, "-c", other)
    assert ended.stderr.startswith(f"guestlist: {other}: nothing matches; 1 domain is hidden: ")
    assert ended.stderr.count("\n") == 1


def test_a_failure_to_tell_what_is_hidden_is_no_failure(proxy: Proxy) -> None:
    proxy.drop_on("CONNECT_LIST_ALL_DOMAINS")  # the list itself is another call
    ended = run("ls", "-f", "json", "-c", proxy.uri(node([SHUT_OFF])))
    assert (ended.returncode, ended.stdout, ended.stderr) == (Exit.OK, "[]\n", "")

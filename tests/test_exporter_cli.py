"""The command `guestlist exporter` as a process: its options, what it refuses, how it ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.command import COMMAND, TEST_HOST, environment, refused, run
from lab.programs import LONG

from guestlist.cli import arguments
from guestlist.cli.exits import Exit
from guestlist.exporter.collectors import COLLECTORS

FREE = "--web.listen-address=127.0.0.1:0"


@contextlib.contextmanager
def exporting(*words: str, **changes: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run the exporter for the length of the block; its process, and its port from the log."""
    with subprocess.Popen(
        [*COMMAND, "exporter", FREE, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**changes),
    ) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                found = re.search(r"listening on https?://127\.0\.0\.1:(\d+)/", line)
                if found:
                    break
            assert found
            yield process, int(found[1])
        finally:
            process.kill()


def get(port: int, path: str = "/metrics") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def options(*words: str):
    return arguments.parse(["exporter", *words])


# Options


@pytest.mark.parametrize(
    ("words", "uri"),
    [
        ([], None),
        (["-c", "xen:///system"], "xen:///system"),
        (["--connect=xen:///system"], "xen:///system"),
        (["--libvirt.uri", "qemu+tls://node1/system"], "qemu+tls://node1/system"),
        (["--libvirt.driver=test:///default"], "test:///default"),
        (
            ["--libvirt.uri=/run/libvirt/libvirt-sock-ro"],
            "qemu+unix:///system?socket=/run/libvirt/libvirt-sock-ro",
        ),
        (
            ["--libvirt.uri=/run/a b&c=d", "--libvirt.driver=qemu:///session"],
            "qemu+unix:///session?socket=/run/a%20b%26c%3Dd",
        ),
    ],
)
def test_the_host(words: list[str], uri: str | None) -> None:
    assert options(*words).uri == uri


def test_collectors() -> None:
    default = frozenset(name for name, each in COLLECTORS.items() if each.is_default)
    assert options().collectors == default
    assert options("--no-collector.vcpu").collectors == default - {"vcpu"}
    assert options("--collector.pool", "--collector.vcpu").collectors == default | {"pool"}
    assert options("--collector.pool", "--no-collector.pool").collectors == default - {"pool"}


def test_where_it_listens() -> None:
    assert options().addresses == [("127.0.0.1", 9177)]
    words = ["--web.listen-address=:9177", "--web.listen-address", "[::1]:9178"]
    assert options(*words).addresses == [("", 9177), ("::1", 9178)]


MANIFESTS = [
    # Kolla's, OpenStack-Helm's, and Debian's
    "--web.listen-address=10.0.0.1:9177 --libvirt.uri=/var/run/libvirt/libvirt-sock-ro",
    "--libvirt.uri=qemu:///system --web.listen-address=:9177 --web.telemetry-path=/metrics",
    "--libvirt.uri=/var/run/libvirt/libvirt-sock-ro --libvirt.driver=qemu:///system "
    "--log.level=info --log.format=logfmt",
    "--libvirt.export-nova-metadata --compat kumina",
]


@pytest.mark.parametrize("words", MANIFESTS)
def test_words_of_other_exporters_are_taken(words: str) -> None:
    assert options(*words.split()).command == "exporter"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--web.listen-adress=:9177"], "unrecognized arguments: --web.listen-adress=:9177"),
        (["--web.listen=:9177"], "unrecognized arguments: --web.listen=:9177"),
        (["--web.listen-address=9177"], "'9177' is no address; write HOST:PORT"),
        (["--collector.disks"], "unrecognized arguments: --collector.disks"),
        (["--collector.interval=0"], "'0' is no number of seconds"),
        (["--compat=inovex"], "invalid choice: 'inovex'"),
        (["--libvirt.driver=lxc:///"], "invalid choice: 'lxc:///'"),
        (["--libvirt.uri="], "the URI is empty"),
        (["-c", "test:///default", "--libvirt.uri", "x:///"], "are the same; give one"),
        (["--web.telemetry-path=metrics"], "must begin with /"),
        (["--web.telemetry-path=/-/ready"], "/-/ready is another page"),
        (["--web.telemetry-path=/a?b"], "can be asked for"),
        (["--web.telemetry-path=/%6d"], "can be asked for"),
        (["--web.systemd-socket", "--web.listen-address=:1"], "give one"),
        (["--log.level=loud"], "invalid choice: 'loud'"),
    ],
)
def test_nonsense_is_one_line_and_status_2(words: list[str], said: str) -> None:
    line = refused("exporter", *words)
    assert said in line
    assert "see 'guestlist exporter --help'" in line


# What cannot work


def failed(*words: str) -> str:
    """Return the one line with which the command fails at the start."""
    ended = run("exporter", "-c", TEST_HOST, *words)
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, "")
    assert ended.stderr.count("\n") == 1
    return ended.stderr


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = failed(f"--web.listen-address={address}")
    assert line == f"guestlist: cannot listen on {address}: Address already in use\n"


def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    assert "No such file or directory" in failed(f"--web.config.file={file}", FREE)
    assert "No such file or directory" in failed(f"--probe.targets={file}", FREE)
    file.write_text("tls: {}")
    assert "has the unknown key 'tls'" in failed(f"--web.config.file={file}", FREE)
    assert "has no URI" in failed(f"--probe.targets={file}", FREE)


def test_without_systemd_there_is_no_socket_of_it() -> None:
    assert "systemd has passed no socket" in failed("--web.systemd-socket")


def test_without_aiohttp_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "aiohttp.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'aiohttp'\", name='aiohttp')"
    )
    path = f"{tmp_path}:{environment()['PYTHONPATH']}"
    ended = run("exporter", "-c", TEST_HOST, FREE, PYTHONPATH=path)
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, "")
    assert ended.stderr == (
        "guestlist: cannot load aiohttp: No module named 'aiohttp'; "
        "install python3-aiohttp python3-bcrypt (Debian) or run: "
        "pip install 'guestlist[exporter]'\n"
    )
    printed = run("exporter", "--print", "-c", TEST_HOST, PYTHONPATH=path)
    assert printed.returncode == Exit.OK


# Serving


def test_it_serves_the_metrics_of_a_host() -> None:
    with exporting("-c", TEST_HOST) as (process, port):
        status, text = get(port)
        assert status == 200
        assert "\nlibvirt_up 1\n" in text
        assert 'domain="test"' in text
        assert get(port, "/-/healthy") == (200, "healthy\n")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_end_it_too(number: signal.Signals) -> None:
    with exporting("-c", TEST_HOST) as (process, port):
        assert get(port)[0] == 200
        process.send_signal(number)
        assert process.wait() == -number


def test_a_probe_asks_another_host(tmp_path: Path) -> None:
    file = tmp_path / "targets.yml"
    file.write_text(f"one: {TEST_HOST}\ngone: test+unix:///default?socket=/nonexistent/sock\n")
    with exporting("-c", TEST_HOST, f"--probe.targets={file}") as (process, port):
        assert "\nlibvirt_up 1\n" in get(port, "/probe?target=one")[1]
        assert "\nlibvirt_up 0\n" in get(port, "/probe?target=gone")[1]
        assert get(port, f"/probe?target={TEST_HOST}")[0] == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM


@pytest.mark.parametrize(
    ("words", "form"),
    [
        ([], r'time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=INFO msg="listening on \S+"\n'),
        (["--log.format=json"], r"\{.*\}\n"),
    ],
)
def test_the_form_of_the_log(words: list[str], form: str) -> None:
    with subprocess.Popen(
        [*COMMAND, "exporter", FREE, "-c", TEST_HOST, *words],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.terminate()
    assert re.fullmatch(form, line)
    if words:
        assert json.loads(line)["level"] == "INFO"


def test_systemds_socket() -> None:
    """A shell takes the place of systemd: descriptor 3, and the number of the process."""
    with socket.create_server(("127.0.0.1", 0)) as listens:
        port = listens.getsockname()[1]
        script = 'exec 3<&0; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
        command = [*COMMAND, "exporter", "--web.systemd-socket", "-c", TEST_HOST]
        with subprocess.Popen(
            ["sh", "-c", script, "sh", *command],
            stdin=listens,
            stderr=subprocess.DEVNULL,
            env=environment(),
        ) as process:
            listens.close()
            assert get(port, "/-/healthy") == (200, "healthy\n")
            process.terminate()
    assert process.returncode == -signal.SIGTERM


# Printing


def test_print_writes_one_scrape() -> None:
    ended = run("exporter", "--print", "-c", TEST_HOST)
    assert (ended.returncode, ended.stderr) == (Exit.OK, "")
    assert "\nlibvirt_up 1\n" in ended.stdout
    assert ended.stdout.endswith("\n")


def test_print_without_a_host_is_one_line() -> None:
    gone = "test+unix:///default?socket=/nonexistent/sock"
    ended = run("exporter", "--print", "--timeout=1", "--log.level=error", "-c", gone)
    assert (ended.returncode, ended.stdout) == (Exit.UNREACHABLE, "")
    assert ended.stderr.count("\n") == 1

"""The command as a process: how it starts, what it says about itself, how it ends."""

import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lab.command import (
    COMMAND,
    MAIN,
    PACKAGE,
    TEST_HOST,
    environment,
    refused,
    run,
    served,
    uri_of,
)
from lab.nodes import node, nova_instance
from lab.proxy import Proxy
from lab.waiting import wait_until

import guestlist
from guestlist.cli import arguments
from guestlist.cli.exits import MEANINGS, Exit, verdict
from guestlist.cli.show import terminal

LISTS = [
    ["ls", "-a", "-c", TEST_HOST],
    ["ls", "-a", "-c", TEST_HOST, "-f", "json"],
    ["ls", "-a", "-l", "-c", TEST_HOST],
    ["check", "-c", TEST_HOST],
    ["watch", "--once", "-a", "-c", TEST_HOST],
    ["completion", "bash"],
    ["ls", "--columns", "help"],
    ["--help"],
    ["--version"],
]


# Starting


def loaded(*words: str) -> set[str]:
    """Return the modules that the command imports for these words."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "guestlist", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        check=True,
    )
    return {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["ls", "--help"],
        ["ls", "--columns", "help"],
        ["show", "--help"],
        ["usage", "--help"],
        ["watch", "--help"],
        ["--version"],
    ],
)
def test_help_loads_nothing_that_takes_time(words: list[str]) -> None:
    modules = loaded(*words)
    assert "guestlist.cli.arguments" in modules
    assert not modules & {
        "libvirt",
        "lxml",
        "rich",
        "yaml",
        "argcomplete",
        "guestlist.host",
        "guestlist.records",
    }


def test_a_list_loads_only_what_its_format_needs(tmp_path: Path) -> None:
    modules = loaded("ls", "-f", "name", "-c", served(tmp_path, [nova_instance(1)]))
    assert "libvirt" in modules
    assert not modules & {"rich", "yaml", "argcomplete", "json", "csv", "shutil", "asyncio"}
    assert not modules & {"guestlist.driver", "guestlist.images", "guestlist.inventory"}
    others = {"table", "news_lines", "news_records", "differences", "screen"}
    assert not modules & {f"guestlist.cli.show.{other}" for other in others}


# What it says about itself


def test_version() -> None:
    assert run("--version").stdout == f"guestlist {guestlist.__version__}\n"


def test_without_a_command_it_explains_itself_and_fails() -> None:
    ended = run()
    assert (ended.returncode, ended.stdout) == (Exit.USAGE, "")
    assert ended.stderr == run("--help").stdout


@pytest.mark.parametrize(
    "words", [[], ["ls"], ["show"], ["usage"], ["watch"], ["check"], ["completion"]]
)
def test_help_has_examples_and_every_exit_status(words: list[str]) -> None:
    text = run(*words, "--help").stdout
    assert "examples:\n  " in text
    for status in Exit:
        assert re.search(rf"^  {status:d} +{MEANINGS[status]}$", text, re.MULTILINE)


@pytest.mark.parametrize("words", [["ls", "-q", "-a", "-c", TEST_HOST], ["completion", "bash"]])
def test_an_exit_function_of_another_program_is_called(tmp_path: Path, words: list[str]) -> None:
    """Coverage of child processes is written by one."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, sys\natexit.register(lambda: print('called', file=sys.stderr))\n"
    )
    ended = run(*words, PYTHONPATH=f"{tmp_path}:{environment()['PYTHONPATH']}")
    assert (ended.returncode, ended.stderr) == (0, "called\n")
    assert ended.stdout == run(*words).stdout


def test_without_one_the_process_ends_at_once() -> None:
    script = "import atexit\nfrom guestlist.cli import command\nprint(atexit._ncallbacks())"
    ended = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    assert int(ended.stdout) <= guestlist.cli._EXIT_FUNCTIONS_OF_PYTHON


def test_help_before_a_command_names_them_all() -> None:
    assert run("--help", "ls").stdout == run("--help").stdout


@pytest.mark.heavy
def test_examples_are_words_that_the_command_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "can_redraw", lambda: True)

    def shown(*words: str) -> list[str]:
        return re.findall(r"^  guestlist ([^|>\n]*?)(?:  .*|[|>].*)?$", run(*words).stdout, re.M)

    commands = (), ("ls",), ("show",), ("usage",), ("watch",), ("check",)
    examples = [example for words in commands for example in shown(*words, "--help")]
    assert len(examples) > 20
    for example in examples:
        words = [word.strip("'") for word in example.split()]
        if "node1" in example or words[0] in (
            "agent",
            "audit",
            "fleet",
        ):  # they need more than this
            continue
        is_endless = {"watch", "exporter", "--live"} & {*words} and "--once" not in words
        if is_endless:
            assert arguments.parse(words).command in words
            continue
        ended = run(*words, LIBVIRT_DEFAULT_URI=TEST_HOST)
        wanted = Exit.NOT_FOUND if words[0] == "show" else Exit.OK
        assert ended.returncode == wanted, example


# Words that make no sense

ODD_NUMBERS = [
    "1_0",
    "\N{ARABIC-INDIC DIGIT ONE}",
    "inf",
    "1e1",
    "0x10",
    " 1",
    "",
    "1,5",
    "+1",
]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sl"], "invalid choice: 'sl'"),
        (["ls", "--al"], "unrecognized arguments: --al; see 'guestlist ls --help'"),
        (["ls", "--columns", "name,colour"], "there is no column 'colour'; there are: host, id,"),
        (["ls", "--columns", ""], "there is no column ''"),
        (["ls", "--sort", "colour"], "invalid choice: 'colour' (choose from"),
        (["ls", "-f", "xml"], "invalid choice: 'xml' (choose from"),
        (["check", "-f", "csv"], "invalid choice: 'csv'"),
        (["ls", "-q", "--columns", "uuid"], "--columns goes with -f table, json, yaml, csv"),
        (["ls", "-q", "-l"], "--long goes with -f table, json, yaml, csv"),
        (["ls", "-l", "--columns", "uuid"], "not allowed with argument -l/--long"),
        (["usage", "--sort", "flavor"], "invalid choice: 'flavor' (choose from"),
        (["usage", "-f", "name"], "invalid choice: 'name' (choose from"),
        (["usage", "--timeout", "0"], "'0' is no number of seconds"),
        (["ls", "-c", ""], "the URI is empty"),
        (["ls", "--timeout", "0"], "'0' is no number of seconds"),
        (["ls", "--timeout", "nan"], "'nan' is no number of seconds"),
        (["ls", "--timeout", "soon"], "'soon' is no number of seconds"),
        *((["ls", "--timeout", odd], f"'{odd}' is no number of seconds") for odd in ODD_NUMBERS),
        (["usage", "--raw"], "--raw goes with -f csv, not with table"),
        (["ls", "--raw", "-f", "name"], "--raw goes with -f csv, not with name"),
        (["ls", "-0"], "--null goes with -f name or -f uuid, not with table"),
        (["ls", "-0", "-f", "csv"], "--null goes with -f name or -f uuid, not with csv"),
        (["ls", "--name-template", "%\N{ARABIC-INDIC DIGIT EIGHT}x"], "no printf conversion"),
        (["ls", "--name-template", "vm"], "every guest the same name"),
        (["ls", "--name-template", "vm-%y"], "'%y' is no printf conversion"),
        (["watch", "-f", "table"], "invalid choice: 'table' (choose from"),
        (["watch", "--inactive"], "arguments: --inactive; see 'guestlist watch --help'"),
        (["ls", "--live"], "--live wants a terminal"),
        (["ls", "--live", "-f", "json"], "--live goes with -f table, not with json"),
        (["ls", "--live", "-q"], "--live goes with -f table, not with name"),
        (["completion", "tcsh"], "invalid choice: 'tcsh'"),
    ],
)
def test_nonsense_is_one_line_and_status_2(words: list[str], said: str) -> None:
    line = refused(*words)
    assert line.startswith("guestlist: ")
    assert said in line
    assert "--help'" in line


def test_help_names_the_exit_status_of_each_signal_that_ends_the_command() -> None:
    text = run("--help").stdout
    ends = signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM
    assert [number for number in ends if f"\n  {128 + number}  " not in text] == []


@pytest.mark.parametrize("hostile", ["a\x1b[31m", "a\nguestlist: b", "a\u202eb", "\udcff"])
@pytest.mark.parametrize("option", ["-c", "-f", "--columns", "--sort", "--name-template", ""])
def test_nonsense_is_not_repeated_raw(option: str, hostile: str) -> None:
    line = refused("ls", *([option] if option else []), hostile)
    assert line[:-1].isprintable()


@pytest.mark.parametrize("number", ["1", "0.5", ".5", "86400", "30.0", "1."])
def test_a_number_of_seconds(number: str) -> None:
    assert arguments.parse(["ls", "--timeout", number]).timeout == float(number)


def test_words_without_end_are_not_repeated_whole() -> None:
    endless = "a" * 5000
    for words in (
        [endless],
        ["ls", endless],
        *(["ls", option, endless] for option in ("-f", "--columns", "--sort", "--timeout")),
        ["ls", "--name-template", endless],
        ["ls", "--name-template", f"%0{'9' * 5000}x"],
    ):
        assert len(refused(*words)) < 1500
    for command in ("ls", "usage", "check"):
        ended = run(command, "-c", f"none:///{endless}", "-c", f"none:///{endless}")
        assert ended.returncode == Exit.UNREACHABLE
        assert ended.stderr.count("\n") == 2  # given twice, and not to be opened
        assert max(map(len, ended.stderr.splitlines())) < 1000


def test_what_is_exact_is_not_for_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(terminal, "is_terminal", lambda: True)
    for words in (["ls", "-q0"], ["ls", "-f", "csv", "--raw"], ["usage", "-f", "csv", "--raw"]):
        with pytest.raises(SystemExit):
            arguments.parse(words)
        assert "wants a pipe or a file" in capsys.readouterr().err


# Unusual standard streams


@pytest.mark.parametrize("words", LISTS)
def test_a_full_disk_is_one_line(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        ended = run(*words, stdout=full)
    assert ended.returncode == Exit.FAILED
    said = "guestlist: cannot write to standard output: No space left on device\n"
    assert ended.stderr == said


@pytest.mark.parametrize("words", LISTS)
def test_a_closed_stdout_is_one_line(words: list[str]) -> None:
    ended = in_shell('"$@" >&-', words)
    assert ended.returncode == Exit.FAILED
    assert ended.stderr == "guestlist: cannot write to standard output: it is closed\n"


@pytest.mark.parametrize("closed", ["0<&- 1>&- 2>&-", "2>&-", "0<&-", ">/dev/full 2>/dev/full"])
def test_nothing_goes_where_it_does_not_belong(closed: str) -> None:
    """libvirt's socket does not get a closed descriptor, and a full stderr changes no status."""
    ended = in_shell(f'"$@" {closed}', ["ls", "-a", "-q", "-c", TEST_HOST])
    spoilt = "1>&-" in closed or ">/dev/full" in closed
    assert (ended.stdout, ended.stderr) == ("" if spoilt else "test\n", "")
    assert ended.returncode == (Exit.FAILED if spoilt else Exit.OK)


def in_shell(script: str, words: list[str], **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", script, "sh", *COMMAND, *words],
        capture_output=True,
        text=True,
        env=environment(**changes),
        check=False,
    )


@pytest.mark.parametrize("words", LISTS)
def test_a_reader_that_has_left_ends_it_quietly(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        ended = run(*words, stdout=pipe)
    assert (ended.returncode, ended.stderr) == (-signal.SIGPIPE, "")


# Streams that take only a part at a time. Unbuffered ones are usual in containers.

UNBUFFERED = pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])

LONG = [
    ["ls", "-a"],
    *(["ls", "-a", "-l", "-f", form] for form in ("table", "json", "yaml", "csv")),
    *(["ls", "-a", "-f", form] for form in ("name", "uuid")),
    *(["usage", "-a", "-f", form] for form in ("table", "json", "yaml", "csv")),
    *(["watch", "-a", "--once", "-f", form] for form in ("lines", "json")),
    ["ls", "--help"],
]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A host whose list is longer than what a pipe of one page takes at a time."""
    path = tmp_path_factory.mktemp("crowd") / "node.xml"
    path.write_text(node([nova_instance(n) for n in range(400)]))
    return f"test://{path}"


def slow_pipe() -> tuple[int, int]:
    """Return a pipe of one page that makes no writer wait: event loops hand such pipes on."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    return reading, writing


def read_whole(reading: int) -> bytes:
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read()


@pytest.mark.heavy
@UNBUFFERED
@pytest.mark.parametrize("words", LONG, ids=" ".join)
def test_a_pipe_that_is_full_gets_all_of_it(crowd: str, words: list[str], unbuffered: str) -> None:
    changes = {"PYTHONUNBUFFERED": unbuffered, "LIBVIRT_DEFAULT_URI": crowd}
    reading, writing = slow_pipe()
    with (
        ThreadPoolExecutor() as reader,
        subprocess.Popen(
            [*COMMAND, *words],
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.PIPE,
            env=environment(**changes),
        ) as command,
    ):
        os.close(writing)
        whole = reader.submit(read_whole, reading)
        assert command.stderr is not None
        assert command.stderr.read().count(b"\n") <= 1  # what `usage` does not know
        shown = whole.result()
    assert command.returncode == Exit.OK
    assert len(shown) > 4096
    usual = run(*words, **changes).stdout
    assert re.sub(r"\d+", "0", shown.decode()) == re.sub(r"\d+", "0", usual)  # times pass


@pytest.mark.parametrize("words", LONG, ids=" ".join)
def test_a_limit_of_a_files_size_is_one_line(crowd: str, tmp_path: Path, words: list[str]) -> None:
    """As on a full disk: the file takes a part, then nothing more."""
    changes = {"PYTHONUNBUFFERED": "1", "LIBVIRT_DEFAULT_URI": crowd}
    changes["PYTHONDONTWRITEBYTECODE"] = "1"  # Python would keep the part that fits as the whole
    out = tmp_path / "out"
    ended = in_shell('ulimit -f 2; exec "$@" >"$OUT"', words, OUT=str(out), **changes)
    assert 0 < out.stat().st_size <= 2048
    assert ended.stderr.endswith("guestlist: cannot write to standard output: File too large\n")
    assert ended.returncode == Exit.FAILED


@UNBUFFERED
def test_a_standard_error_that_is_full_gets_all_of_it(unbuffered: str) -> None:
    script = "from guestlist.cli.show import terminal; terminal.explain('x' * 20_000)"
    reading, writing = slow_pipe()
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stderr=writing,
        env=environment(PYTHONUNBUFFERED=unbuffered),
    ) as command:
        os.close(writing)
        wait_until(lambda: waiting_in(reading) == 4096)
        assert read_whole(reading) == b"x" * 20_000
    assert command.returncode == 0


def waiting_in(pipe: int) -> int:
    """Return the number of bytes in a pipe."""
    (count,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    return int(count)


def test_an_error_that_only_a_close_tells_is_a_failure() -> None:
    """NFS reports a full disk so: here `os.close` does it in the place of a server."""
    script = (
        "import errno, os, guestlist.cli\n"
        "def close(descriptor): raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))\n"
        "os.close = close\n"
        "raise SystemExit(guestlist.cli.main(['--version']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert ended.stderr == "guestlist: cannot write to standard output: Disk quota exceeded\n"
    assert ended.returncode == Exit.FAILED


def test_an_encoding_with_a_mark_has_it_once(crowd: str) -> None:
    """`watch` writes once for each host."""
    command = [*COMMAND, "watch", "-a", "--once", "-f", "json", "-c", TEST_HOST, "-c", crowd]
    ended = subprocess.run(
        command, stdout=subprocess.PIPE, env=environment(PYTHONIOENCODING="utf-16"), check=True
    )
    text = ended.stdout.decode("utf-16")
    assert text.count("\n") == 2
    assert "\ufeff" not in text


def test_a_stdout_that_is_not_utf8_gets_escapes() -> None:
    text = run("ls", "--columns", "help", PYTHONIOENCODING="ascii").stdout
    assert "\\u2026" in text


# A host that hangs


def test_ctrl_c_ends_it_quietly_while_a_host_hangs(deaf: socket.socket) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, "ls", "-c", uri_of(deaf), "-c", TEST_HOST],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as command:
        client, _ = deaf.accept()
        with client:
            client.recv(1)  # it asks, and waits
            command.send_signal(signal.SIGINT)
            assert command.communicate() == (b"", b"")
    assert command.returncode == -signal.SIGINT


def test_a_host_that_hangs_delays_neither_the_others_nor_the_end(deaf: socket.socket) -> None:
    ended = run("ls", "-a", "-q", "--timeout", "1", "-c", uri_of(deaf), "-c", TEST_HOST)
    assert (ended.returncode, ended.stdout) == (Exit.PARTIAL, "test\n")
    assert f"cannot connect to {uri_of(deaf)}: no answer within 1 s" in ended.stderr


@pytest.mark.parametrize(
    ("words", "call", "answer"),
    [
        (["ls", "-q"], "CONNECT_LIST_ALL_DOMAINS", "test\n"),
        (
            ["usage", "-f", "csv", "--no-headers"],
            "CONNECT_GET_ALL_DOMAIN_STATS",
            TEST_HOST,
        ),
    ],
)
def test_a_call_that_is_never_answered_is_given_up(
    rpc: Proxy, words: list[str], call: str, answer: str
) -> None:
    """The daemon lives and answers keepalive; only the call does not end."""
    ended = threading.Event()
    rpc.on_call(call, ended.wait)
    try:
        said = run(*words, "-a", "--timeout", "0.5", "-c", rpc.uri(), "-c", TEST_HOST)
    finally:
        ended.set()
    assert (said.returncode, said.stdout.count("\n")) == (Exit.PARTIAL, 1)
    assert said.stdout.startswith(answer)
    assert f"no answer from {rpc.uri()} within 0.5 s" in said.stderr


# How it ends


@pytest.mark.parametrize(
    ("answered", "failures", "status"),
    [
        (0, [], Exit.OK),
        (2, [], Exit.OK),
        (1, [guestlist.AccessDenied()], Exit.PARTIAL),
        (0, [guestlist.ConnectionFailed(), guestlist.AccessDenied()], Exit.UNREACHABLE),
        (0, [guestlist.AccessDenied(), guestlist.ConnectionFailed()], Exit.DENIED),
        (0, [guestlist.ConnectionLost()], Exit.LOST),
        (0, [guestlist.ListingUnstable()], Exit.UNSTABLE),
        (0, [guestlist.TooManyDomains()], Exit.TOO_MANY),
        (0, [guestlist.NotSupported()], Exit.UNSUPPORTED),
        (0, [guestlist.LibvirtFailure()], Exit.FAILED),
        (0, [RuntimeError()], Exit.FAILED),
    ],
)
def test_each_kind_of_failure_has_its_status(
    answered: int, failures: list[Exception], status: Exit
) -> None:
    assert verdict(answered, failures) == status


@pytest.mark.parametrize("place", ["host.Host.snapshot", "cli.show.render.rendered"])
def test_an_unexpected_error_is_one_line(place: str) -> None:
    room, _, name = place.rpartition(".")
    script = (
        "import guestlist.cli, guestlist.host, guestlist.cli.show.render\n"
        f"guestlist.{room}.{name} = lambda *_, **__: [][0]\n"
        "raise SystemExit(guestlist.cli.main())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, "ls", "-c", TEST_HOST, "--foreign"],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, "")
    assert "unexpected IndexError: list index out of range; -v shows the traceback" in ended.stderr
    assert ended.stderr.count("\n") == 1


# What is missing


@pytest.mark.parametrize(
    ("package", "words", "remedy"),
    [
        ("libvirt", ["ls"], "install python3-libvirt"),
        ("libvirt", ["watch"], "install python3-libvirt"),
        ("libvirt", ["usage"], "install python3-libvirt"),
        ("libvirtmod", ["check"], "pip install libvirt-python"),
        ("yaml", ["ls", "-f", "yaml", "-c", TEST_HOST], "pip install 'guestlist[cli]'"),
        ("argcomplete", ["completion", "bash"], "pip install 'guestlist[cli]'"),
    ],
)
def test_a_missing_package_is_one_line(
    tmp_path: Path, package: str, words: list[str], remedy: str
) -> None:
    absent = f"raise ModuleNotFoundError('there is no {package}', name='{package}')\n"
    (tmp_path / f"{package}.py").write_text(absent)
    ended = run(*words, PYTHONPATH=f"{tmp_path}{os.pathsep}{PACKAGE}")
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, "")
    assert ended.stderr.splitlines()[-1].startswith("guestlist: cannot load ")
    assert remedy in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr

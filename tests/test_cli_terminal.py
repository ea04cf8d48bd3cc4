"""What a terminal gets to see: nothing that it obeys, in colours if it has them, and fitting."""

import ast
import csv
import io
import json
import re
import subprocess
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.command import COMMAND, environment, run, served
from lab.hostile import HOSTILE, hostile
from lab.nodes import node, nova_instance
from lab.proxy import Proxy
from lab.terminal import on_a_terminal

from guestlist.cli.exits import Exit
from guestlist.cli.show import table
from guestlist.cli.show.columns import BRIEF, Record, chosen
from guestlist.cli.show.render import as_cell
from guestlist.cli.show.terminal import escape

# Names


@pytest.mark.heavy
@pytest.mark.parametrize(("name", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_a_name_is_shown_harmless_and_carried_exactly(
    tmp_path: Path, name: str, shown: str
) -> None:
    uri = served(tmp_path, [hostile(name)])

    def listed(*words: str) -> str:
        return run("ls", "-a", "--no-headers", "-c", uri, *words).stdout

    assert listed("-f", "name") == f"{shown}\n"
    assert listed("--columns", "name") == f"{shown}\n"
    quoted = '"\'=a,""b"""' if name in HOSTILE["CSV"] else shown
    assert listed("-f", "csv", "--columns", "name") == f"{quoted}\n"
    assert list(csv.reader(io.StringIO(listed("-f", "csv", "--raw", "--columns", "name")))) == [
        [name]
    ]
    assert listed("-q0") == f"{name}\0"
    exact = listed("-f", "json")
    assert json.loads(exact)[0]["name"] == name
    assert exact.isascii()
    exact = listed("-f", "yaml")
    assert all(char == "\n" or " " <= char <= "~" for char in exact)


def test_a_name_forges_no_line(proxy: Proxy) -> None:
    """libvirt refuses a newline in a name; a daemon that is not libvirt's may send one."""
    proxy.rename("instance-00000001", b"a\n2   forged  running\x1b[2K\rb")
    ended = run("ls", "-a", "-c", proxy.uri(node([nova_instance(1)])))
    assert len(ended.stdout.splitlines()) == 2
    assert r"a\n2   forged  running\x1b[2K\rb" in ended.stdout


def test_an_error_forges_no_line(proxy: Proxy) -> None:
    proxy.fail("CONNECT_GET_ALL_DOMAIN_STATS", 1, message="no\nguestlist: all is well\x1b[2K\u202e")
    ended = run("ls", "-v", "-c", proxy.uri(node([nova_instance(1)])))
    assert all(line.isprintable() for line in ended.stderr.split("\n"))
    assert not re.search("^guestlist: all is well", ended.stderr, re.MULTILINE)


@given(st.text())
def test_escapes_are_printable_and_can_be_undone(text: str) -> None:
    shown = escape(text)
    assert shown.isprintable()
    assert unescape(shown) == text


def unescape(shown: str) -> str:
    value: str = ast.literal_eval("'" + shown.replace("'", r"\'") + "'")
    return value


# Spreadsheets

COMPUTED = {  # alone, and after what a spreadsheet may take for the end of a cell
    "=1+1": "'=1+1",
    "+1": "'+1",
    "-2+3": "'-2+3",
    "@SUM(1)": "'@SUM(1)",
    "\N{FULLWIDTH EQUALS SIGN}1": "'\N{FULLWIDTH EQUALS SIGN}1",
    "  =1": "'  =1",
    "a;=1": "a;'=1",
    "a; @b;;-1": "a;' @b;;'-1",
    "'=1": "''=1",
    "'": "''",
    "\t=1": "\\t=1",
    "\r\n=1": "\\r\\n=1",
    "web-1;a=b": "web-1;a=b",
}


@pytest.mark.parametrize(("text", "cell"), COMPUTED.items())
def test_a_text_is_no_formula(text: str, cell: str) -> None:
    assert as_cell(text) == cell


def value_of(cell: str) -> str:
    """Return the value of a cell, by the rule of --help."""
    return unescape(re.sub("(^|;)'", r"\1", cell))


@given(st.text(alphabet="=+-@';, a\\\t\N{FULLWIDTH PLUS SIGN}") | st.text())
def test_a_cell_is_no_formula_and_can_be_undone(text: str) -> None:
    cell = as_cell(text)
    assert value_of(cell) == text
    for part in cell.split(";"):
        assert part.lstrip(" ")[:1] not in set("=+-@\t\r\uff0b\uff0d\uff1d\uff20") - {""}


@pytest.mark.parametrize("command", [["ls", "-a", "-l"], ["usage", "-a"]], ids=" ".join)
def test_what_tenants_choose_is_no_formula_in_any_csv(tmp_path: Path, command: list[str]) -> None:
    """Names and metadata: text is neutralised, and a number stays one."""
    nova = (
        "<n:instance xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1'>"
        "<n:name>=HYPERLINK(1)</n:name><n:creationTime>2999-01-01 00:00:00</n:creationTime>"
        "<n:flavor name='+1'/><n:owner><n:user uuid='-1'>@SUM(1)</n:user>"
        "<n:project uuid='=2'>-2+3</n:project></n:owner></n:instance>"
    )
    domain = replace(nova_instance(1), name="-cmd|' C calc'!A0", metadata=nova)
    words = (*command, "-c", served(tmp_path, [domain]), "-f", "csv")
    [row] = csv.DictReader(io.StringIO(run(*words).stdout))
    [raw] = csv.DictReader(io.StringIO(run(*words, "--raw").stdout))
    assert row["name"] == "'-cmd|' C calc'!A0"
    for key, value in row.items():
        if key == "age_seconds":
            assert int(value) < 0
        else:
            assert not value.startswith(tuple("=+-@"))
            assert value_of(value) == raw[key]
    if command[0] == "ls":
        assert (raw["nova_name"], raw["project"]) == ("=HYPERLINK(1)", "-2+3")


def test_raw_is_for_programs_alone(tmp_path: Path) -> None:
    words = ("ls", "-a", "-c", served(tmp_path, [hostile("\N{SNOWMAN}")]))
    for options in (["-f", "csv", "--raw"], ["-q0"]):
        ended = run(*words, *options, PYTHONIOENCODING="ascii")
        assert (ended.returncode, ended.stdout) == (Exit.FAILED, "")
        assert "its encoding, ascii, lacks a character of these values" in ended.stderr
        assert ended.stderr.count("\n") == 1


# Tables


def record(name: str) -> Record:
    identity = "fed1a83b-08d1-5f23-922a-3c563b04391b"
    values = ("qemu+ssh://compute-01/system", 7, name, identity, "shut off", False, "libguestfs")
    return dict(zip(BRIEF, values, strict=True))


def laid_out(names: list[str], columns: str, width: int | None = None) -> list[str]:
    records = [record(name) for name in names]
    return list(table.lines(chosen(columns.split()), records, width=width))


def test_decomposed_hangul_takes_the_cells_of_its_syllables() -> None:
    """Terminals follow wcwidth: U+1112 U+1161 U+11AB is one wide character."""
    composed = "\ud55c\uae00"
    decomposed = unicodedata.normalize("NFD", composed)
    assert len(decomposed) == 6
    assert table.cells(decomposed) == table.cells(composed) == 4
    assert table.cells("\ua960\ud7b0\ud7cb") == 2  # of old Korean
    lines = laid_out([composed, decomposed, "plain"], "name id")
    assert lines[1:] == [f"{composed}   7", f"{decomposed}   7", "plain  7"]
    assert table.folded(decomposed, 2) == [decomposed[:3], decomposed[3:]]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "iso8859-15", "euc-jp"])
def test_a_table_is_straight_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    """A character that the encoding lacks is shown as an escape, which is wider."""
    names = ["\u540d\u524d", "caf\xe9", "\u20ac", "\N{GRINNING FACE}", "plain"]
    uri = served(tmp_path, [hostile(name) for name in names])
    ended = subprocess.run(
        [*COMMAND, "ls", "-a", "--columns", "name,state", "-c", uri],
        stdout=subprocess.PIPE,
        env=environment(PYTHONIOENCODING=encoding),
        check=True,
    )
    lines = ended.stdout.decode(encoding).splitlines()
    assert len(lines) == 1 + len(names)
    starts = {table.cells(line) - len(line.split()[-1]) for line in lines}
    assert len(starts) == 1


def test_a_cell_that_is_cut_fits_in_any_encoding(tmp_path: Path) -> None:
    uri = served(tmp_path, [hostile("caf\xe9-" * 3)])
    words = ("ls", "-a", "-c", uri)
    for line in on_a_terminal(*words, width=40, NO_COLOR="1", PYTHONIOENCODING="ascii").split("\n"):
        assert line.isascii()
        assert len(line) <= 40
    assert "..." in on_a_terminal(*words, width=40, PYTHONIOENCODING="ascii")


def test_a_wide_character_takes_two_cells() -> None:
    lines = laid_out(["名前", "e\u0301", "plain"], "name id")
    assert lines == ["NAME   ID", "名前   7", "e\u0301      7", "plain  7"]


def test_forty_columns_cut_the_uuid_first() -> None:
    assert laid_out(["instance-00000001"], "id name state uuid", 40) == [
        "ID  NAME               STATE     UUID",
        "7   instance-00000001  shut off  fed1a8…",
    ]


def test_forty_columns_fold_a_name_that_does_not_fit() -> None:
    assert laid_out(["the-mail-server-of-accounting"], "id name state uuid", 40) == [
        "ID  NAME                 STATE    UUID",
        "7   the-mail-server-of-  shut o…  fed1a…",
        "    accounting",
    ]


def test_numbers_and_their_header_are_flush_right_and_totals_below_a_rule() -> None:
    columns = chosen(["name", "memory_mib", "state"])
    rows: list[Record] = [
        {"name": "a", "memory_mib": mib, "state": "running"} for mib in (512, 10 << 10, None)
    ]
    total: Record = {"name": "all", "memory_mib": 10752, "state": None}
    assert list(table.lines(columns, rows, totals=[total])) == [
        "NAME     MEMORY  STATE",
        "a     512.0 MiB  running",
        "a      10.0 GiB  running",
        "a             -  running",
        "----  ---------  -------",
        "all    10.5 GiB  -",
    ]
    assert len(list(table.lines(columns, [], totals=[total], headers=False))) == 2


def test_a_list_in_a_cell_is_escaped_and_folds() -> None:
    columns = chosen(["id", "macs"])
    rows: list[Record] = [{"id": n, "macs": macs} for n, macs in enumerate((["a\n"], [], None))]
    assert list(table.lines(columns, rows)) == ["ID  MACS", r"0   a\n", "1   -", "2   -"]
    two: list[Record] = [{"id": 1, "macs": ["fa:16:3e:00:00:01", "fa:16:3e:00:00:02"]}]
    assert list(table.lines(columns, two, width=22)) == [
        "ID  MACS",
        "1   fa:16:3e:00:00:01,",
        "    fa:16:3e:00:00:02",
    ]


def test_all_columns_fit_a_wide_terminal(tmp_path: Path) -> None:
    uri = served(tmp_path, [nova_instance(1)])
    lines = on_a_terminal("ls", "-l", "-c", uri, width=150, NO_COLOR="1").splitlines()
    assert all(len(line) <= 150 for line in lines)


@given(
    st.lists(st.text(), min_size=1, max_size=4),
    st.sampled_from(
        ["id name state uuid", "host id name state uuid launcher", "name", "uuid name"]
    ),
    st.integers(47, 120),
)
def test_a_table_fits_and_loses_no_name(names: list[str], columns: str, width: int) -> None:
    lines = laid_out(names, columns, width)
    assert all(table.cells(line) <= width for line in lines)
    assert all(line == line.rstrip(" ") for line in lines)


@given(st.text(min_size=1), st.integers(2, 30))
def test_folding_loses_nothing(text: str, width: int) -> None:
    pieces = table.folded(escape(text), width)
    assert "".join(pieces) == escape(text)
    assert all(table.cells(piece) <= width for piece in pieces)


# On a terminal


@pytest.fixture
def host(tmp_path: Path) -> str:
    return served(
        tmp_path, [nova_instance(1), nova_instance(2, paused=True), nova_instance(3, active=False)]
    )


def test_states_are_coloured_on_a_terminal(host: str) -> None:
    shown = on_a_terminal("ls", "--inactive", "-c", host)
    assert shown.startswith("\x1b[1mID\x1b[0m  \x1b[1mNAME\x1b[0m ")
    assert "\x1b[32mrunning\x1b[0m   " in shown
    assert "\x1b[33mpaused\x1b[0m    " in shown
    assert "\x1b[2mshut off\x1b[0m  " in shown


def test_without_colours_it_is_the_same_table(host: str) -> None:
    words = ("ls", "--inactive", "-c", host)
    coloured = on_a_terminal(*words)
    plain = run(*words).stdout
    assert re.sub(r"\x1b\[\d*m", "", coloured) == plain
    assert on_a_terminal(*words, NO_COLOR="1") == plain
    assert on_a_terminal(*words, NO_COLOR="") == coloured
    assert on_a_terminal(*words, TERM="dumb") == plain


@pytest.mark.parametrize("form", ["json", "yaml", "csv", "name", "uuid"])
def test_other_formats_are_never_coloured(host: str, form: str) -> None:
    words = ("ls", "--inactive", "-f", form, "-c", host)
    assert on_a_terminal(*words, width=20) == run(*words).stdout


def test_forty_columns_are_enough(host: str) -> None:
    lines = on_a_terminal("ls", "--inactive", "-c", host, width=40, NO_COLOR="1").splitlines()
    assert max(map(len, lines)) <= 40
    assert len(lines) == 4
    assert lines[1].startswith("1   instance-00000001  running   ")
    assert lines[1].endswith("…")


def test_a_pipe_gets_every_cell_whole(host: str) -> None:
    lines = run("ls", "--inactive", "-c", host, COLUMNS="20").stdout.splitlines()
    assert all(line == line.rstrip() for line in lines)
    assert all(len(line.split()[-1]) == 36 for line in lines[1:])

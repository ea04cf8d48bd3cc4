"""The times of `guestlist watch`: dates where they are needed, and `--since`."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import pytest
from lab.command import TEST_HOST, refused, run, served
from lab.nodes import Domain, handmade, nova_instance

from guestlist.cli.exits import Exit
from guestlist.cli.show.news_lines import Lines
from guestlist.cli.since import instant
from guestlist.inventory.changes import Gone, Resynced
from guestlist.launcher import Launcher
from guestlist.records import Details, Instance, NovaMetadata, Snapshot
from guestlist.states import DomainState

FULL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d  ").match
SHORT = re.compile(r"\d\d:\d\d:\d\d  ").match


def written(n: int, at: str) -> Domain:
    """Return the n-th instance, which Nova wrote at that time (UTC)."""
    made = nova_instance(n)
    time = re.compile("<nova:creationTime>.*</nova:creationTime>")
    return replace(
        made, metadata=time.sub(f"<nova:creationTime>{at}</nova:creationTime>", made.metadata)
    )


OLD, NEWER, NEWEST = (
    written(1, "2026-03-01 10:00:00"),
    written(2, "2026-03-03 10:00:00"),
    written(3, "2026-03-02 10:00:00"),
)


# Dates


def test_times_are_short_unless_dates_are_asked_for() -> None:
    words = ("watch", "--once", "-a", "-c", TEST_HOST)
    assert all(map(SHORT, run(*words).stdout.splitlines()))
    lines = run(*words, "--dates", TZ="XXX-05:30").stdout.splitlines()
    assert all(map(FULL, lines))
    assert all(line[19:25] == "+05:30" for line in lines)
    fleet = run("fleet", "watch", "--once", "-a", "-c", TEST_HOST, "--dates")
    assert all(map(FULL, fleet.stdout.splitlines()))


def gone(at: datetime) -> Gone:
    return Gone(Instance(UUID(int=7), "a", 1, DomainState.RUNNING, 1, Launcher.NOVA), None, (), at)


def test_times_have_dates_from_the_next_day_on() -> None:
    lines = Lines([], colours=False)
    noon = datetime.now().astimezone().replace(hour=12)
    told = [lines.of("host", gone(noon + timedelta(hours=hours))) for hours in (0, 1, 24, 0)]
    assert [bool(FULL(line)) for line in told] == [False, False, True, True]
    assert bool(SHORT(told[1]))


# Since when


def test_since_begins_with_what_nova_wrote_since_then(tmp_path: Path) -> None:
    uri = served(tmp_path, [OLD, NEWER, NEWEST])
    words = ("watch", "--once", "-c", uri, "--since")
    lines = run(*words, "2026-03-02", TZ="UTC").stdout.splitlines()
    assert lines[:2] == [
        f"2026-03-02T10:00:00+00:00  {NEWEST.name}  written by Nova: running",
        f"2026-03-03T10:00:00+00:00  {NEWER.name}  written by Nova: running",
    ]
    assert lines[2].endswith("+00:00  3 domains")
    assert len(lines) == 3
    assert len(run(*words, "1h").stdout.splitlines()) == 1
    later = run(*words, "2026-03-03T10:00:01Z").stdout.splitlines()
    assert len(later) == 1
    exactly = run(*words, "2026-03-03 11:00+01:00").stdout.splitlines()
    assert len(exactly) == 2


def test_a_domain_that_tells_no_time_is_counted(tmp_path: Path) -> None:
    uri = served(tmp_path, [OLD, handmade(0)])
    ended = run("watch", "--once", "-a", "-c", uri, "--since", "2026-01-01", TZ="UTC")
    assert (ended.returncode, len(ended.stdout.splitlines())) == (Exit.OK, 2)
    assert ended.stderr == (
        f"guestlist: {uri}: 1 domain does not tell when Nova wrote it: --since leaves it out\n"
    )


def test_only_the_first_list_of_a_host_looks_back() -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    nova = NovaMetadata("1.1", None, None, at, None, None)
    details = Details(None, None, None, None, None, None, None, nova=nova)
    there = Instance(UUID(int=7), "a", 1, DomainState.RUNNING, 1, Launcher.NOVA, details)
    lines = Lines([], colours=False, since=at)
    resynced = Resynced(Snapshot([there]), 0, at + timedelta(days=1))
    first = lines.of("host", resynced).splitlines()
    assert [line[27:] for line in first] == [
        "a  written by Nova: running (booted)",
        "watching 1 domain",
    ]
    assert lines.of("host", resynced)[27:] == "back in step: 1 domain\n"
    assert lines.of("other", resynced).count("\n") == 2


def ago(**length: int) -> timedelta:
    return timedelta(**length)


@pytest.mark.parametrize(
    ("text", "length"),
    [("90s", ago(seconds=90)), ("10m", ago(minutes=10)), ("2h", ago(hours=2)), ("3d", ago(days=3))],
)
def test_a_length_is_before_now(text: str, length: timedelta) -> None:
    before = datetime.now(UTC)
    found = instant(text)
    assert before - length <= found <= datetime.now(UTC) - length


def test_a_time_of_day_is_of_today() -> None:
    def midnight() -> datetime:
        return datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)

    before = midnight()
    found = {instant("0:00"), instant("00:00:00")}
    assert found <= {before, midnight()}


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-03-01T22:10Z", datetime(2026, 3, 1, 22, 10, tzinfo=UTC)),
        ("2026-03-01 22:10:05+0100", datetime(2026, 3, 1, 21, 10, 5, tzinfo=UTC)),
        ("2026-03-01T22:10:05.5-03:00", datetime(2026, 3, 2, 1, 10, 5, 500_000, tzinfo=UTC)),
        ("2026-03-01", datetime(2026, 3, 1).astimezone()),
        ("2026-03-01T22:10", datetime(2026, 3, 1, 22, 10).astimezone()),
    ],
)
def test_a_date_is_iso_8601(text: str, at: datetime) -> None:
    assert instant(text) == at
    assert instant(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "yesterday", "10", "-10m", "1.5h", "10M", "1 h", "٣h", "9999999d", "25:00"),
        *("12:60", "1:2", "2026-13-01", "2026-02-30", "2026-3-1", "20260301", "2026-03-01T"),
        *("2026-03-01T25:00", "2026-03-01T22", "2026-W10-1", "0001-01-01T00:00+23:59", "999999d"),
        "2026-03-01T22:10+99:00",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no time; write, for example, 10m"):
        instant(text)


def test_the_future_is_refused() -> None:
    tomorrow = datetime.now(timezone(timedelta(hours=5))) + timedelta(days=1)
    with pytest.raises(argparse.ArgumentTypeError, match="is in the future: "):
        instant(tomorrow.isoformat(timespec="seconds"))


def test_the_last_minute_of_the_calendar_is_the_future() -> None:
    """East of Greenwich it is in the year 10000, which Python's calendar has not."""
    end = "9999-12-31T23:59Z"
    ended = run("watch", "--once", "-c", TEST_HOST, "--since", end, TZ="XXX-05:30")
    assert (ended.returncode, ended.stdout) == (Exit.USAGE, "")
    assert f"'{end}' is in the future: it is now " in ended.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--since", "soon"], "argument --since: 'soon' is no time"),
        (["--since", "a\x1b[1m"], "argument --since: "),
        (["--since", "2h", "-f", "json"], "--since goes with -f lines; -f json has 'created_at'"),
    ],
)
def test_the_command_refuses_them_in_one_line(words: list[str], said: str) -> None:
    line = refused("watch", *words)
    assert said in line
    assert line[:-1].isprintable()

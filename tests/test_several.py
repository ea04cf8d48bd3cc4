"""Several hosts at once: what is asked side by side, what hangs, and where the news arrive.

A question here may be any function of a Host, so most tests decide themselves when it returns.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab.command import NO_HOST, TEST_HOST, environment, served, uri_of
from lab.nodes import nova_instance
from lab.waiting import LONG, wait_until

from guestlist import (
    ConnectionFailed,
    ConnectionLost,
    Host,
    Inventory,
    NotSynced,
    Resynced,
    ThreadUnavailable,
    threads,
)
from guestlist.several import asking
from guestlist.several.asking import HostAnswer, HostFailure, ask_each, ask_in_order
from guestlist.several.following import FollowedHost, HostNews, await_step, follow
from guestlist.several.news_queue import NewsQueue

ONE = nova_instance(1)


@contextmanager
def hosts(*uris: str) -> Iterator[list[Host]]:
    """Hosts that are closed at the end of the block."""
    made = [Host(uri, open_timeout=LONG) for uri in uris]
    try:
        yield made
    finally:
        for host in made:
            host.close()


@pytest.fixture
def own_host(tmp_path: Path) -> str:
    """The URI of a host with `ONE`; other tests of this process change TEST_HOST's domains."""
    return served(tmp_path, [ONE])


def names(host: Host) -> list[str]:
    return [instance.name for instance in host.snapshot(include_foreign=True).instances]


# Asking


def test_each_host_has_its_outcome_in_the_order_of_the_hosts(own_host: str) -> None:
    with hosts(NO_HOST, own_host, own_host) as asked:
        failed, *answered = ask_in_order(asked, names, timeout=LONG)
    assert isinstance(failed, HostFailure)
    assert isinstance(failed.error, ConnectionFailed)
    assert failed.host is asked[0]
    assert answered == [HostAnswer(host, [ONE.name]) for host in asked[1:]]
    assert ask_in_order([], names, timeout=LONG) == []


def test_outcomes_come_as_they_are_there() -> None:
    """The host given first answers last: it waits until the second one's answer was taken."""
    taken = threading.Event()
    with hosts(TEST_HOST, TEST_HOST) as (slow, quick):
        outcomes = ask_each(
            [slow, quick], lambda host: host is quick or taken.wait(LONG), timeout=LONG
        )
        assert next(outcomes).host is quick
        taken.set()
        assert next(outcomes) == HostAnswer(slow, True)
        assert list(outcomes) == []


def test_as_many_are_asked_at_a_time_as_the_bound_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PATIENCE", LONG)
    both = threading.Barrier(2)  # is passed only if two are asked at a time
    lock = threading.Lock()
    now = most = 0

    def question(_: Host) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        both.wait(LONG)
        with lock:
            now -= 1
        return most

    with hosts(*[TEST_HOST] * 10) as asked:
        outcomes = ask_in_order(asked, question, timeout=LONG, at_once=2)
    assert all(isinstance(outcome, HostAnswer) for outcome in outcomes)
    assert most == 2


def test_more_hosts_hang_than_the_bound_and_the_others_are_asked(
    deaf: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PATIENCE", 0.05)
    with hosts(*[uri_of(deaf)] * 7, TEST_HOST, TEST_HOST) as asked:
        outcomes = ask_each(asked, names, timeout=LONG, at_once=2)
        first, second = next(outcomes), next(outcomes)
        assert {first.host, second.host} == {*asked[7:]}
        assert isinstance(first, HostAnswer)
        outcomes.close()  # waits for none of the seven


def test_a_host_that_does_not_answer_in_time_fails_and_its_answer_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking, "GRACE", 0.0)
    late = threading.Event()
    with hosts(TEST_HOST) as asked:
        [outcome] = ask_each(asked, lambda _: late.wait(LONG), timeout=0.05)
        late.set()
    assert isinstance(outcome, HostFailure)
    assert isinstance(outcome.error, ConnectionLost)
    assert f"no answer from {TEST_HOST} within 0.05 s" in str(outcome.error)


def test_a_deadline_ends_it_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PATIENCE", LONG)
    late = threading.Event()
    with hosts(*[TEST_HOST] * 3) as asked:
        outcomes = ask_in_order(
            asked, lambda _: late.wait(LONG), timeout=LONG, at_once=1, deadline=0.05
        )
        late.set()
    errors = [str(outcome.error) for outcome in outcomes if isinstance(outcome, HostFailure)]
    assert errors[0].startswith(f"no answer from {TEST_HOST} within ")
    assert [error.startswith(f"{TEST_HOST} was not asked") for error in errors[1:]] == [True, True]


def test_what_a_question_raises_is_that_hosts_failure_alone() -> None:
    with hosts(TEST_HOST, TEST_HOST) as asked:
        one, other = ask_in_order(asked, [asked[1]].index, timeout=LONG)
    assert isinstance(one, HostFailure)
    assert isinstance(one.error, ValueError)
    assert other == HostAnswer(asked[1], 0)


def test_without_a_thread_every_host_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(job: Callable[[], object], name: str) -> None:
        raise ThreadUnavailable(name)

    monkeypatch.setattr(threads, "start", refuse)
    with hosts(TEST_HOST, TEST_HOST) as asked:
        outcomes = ask_in_order(asked, names, timeout=LONG)
    assert all(isinstance(outcome, HostFailure) for outcome in outcomes)


def test_who_stops_early_has_no_further_host_asked() -> None:
    asked_of: list[Host] = []
    with hosts(*[TEST_HOST] * 5) as asked:
        outcomes = ask_each(asked, asked_of.append, timeout=LONG, at_once=1)
        next(outcomes)
        outcomes.close()
        wait_until(lambda: not any(each.name == "guestlist-ask" for each in threading.enumerate()))
        first = len(asked_of)
        assert next(outcomes, None) is None
    assert len(asked_of) == first


def test_a_bound_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="at_once is 0"):
        next(ask_each([], names, timeout=LONG, at_once=0))


def test_a_host_that_hangs_does_not_delay_the_end_of_the_process(deaf: socket.socket) -> None:
    script = (
        "import sys\n"
        "from guestlist import Host, quiet\n"
        "from guestlist.several.asking import ask_each\n"
        "quiet()\n"
        "hosts = [Host(uri, open_timeout=1000) for uri in sys.argv[1:]]\n"
        "print(next(ask_each(hosts, Host.capabilities, timeout=1000)).value.uri)\n"
        "for host in hosts: host.close()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, uri_of(deaf), TEST_HOST],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=LONG,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{TEST_HOST}\n", "")


# The queue of news


def test_a_queue_that_is_full_lets_the_next_wait() -> None:
    queue: NewsQueue[int] = NewsQueue(most=2)
    putting = threading.Thread(target=lambda: [queue.put(number) for number in range(100)])
    putting.start()
    most = 0
    for number in range(100):
        most = max(most, len(queue._items))
        assert queue.get(LONG) == number
    putting.join()
    assert most <= 2


def test_some_news_do_not_wait_and_an_exception_is_raised() -> None:
    queue: NewsQueue[str] = NewsQueue(most=1)
    queue.put("first")
    queue.put_now("second")
    queue.put_now(BrokenPipeError())
    assert (queue.get(), queue.get()) == ("first", "second")
    with pytest.raises(BrokenPipeError):
        queue.get()


def test_a_closed_queue_keeps_no_thread_waiting() -> None:
    queue: NewsQueue[int] = NewsQueue(most=1)
    putting = threading.Thread(target=lambda: [queue.put(number) for number in range(10)])
    putting.start()
    wait_until(lambda: queue._items)
    queue.close()
    putting.join()
    assert queue.get() == 0


def test_however_short_it_waits_for_news_it_does_not_wait_for_ever() -> None:
    """Python's SimpleQueue (before 3.13) may, unless it was found empty before."""
    queue: NewsQueue[int] = NewsQueue()
    for number in range(40_000):
        queue.put_now(number)
        assert queue.get() == number
        with pytest.raises(TimeoutError):
            queue.get(1e-9)


# Following


def test_the_news_of_all_hosts_arrive_in_one_queue(own_host: str, deaf: socket.socket) -> None:
    queue: NewsQueue[HostNews] = NewsQueue()
    with hosts(own_host, own_host, uri_of(deaf)) as made:
        followed = [FollowedHost(host, details=False) for host in made]
        try:
            for part, timeout in ((followed[:2], LONG), (followed[2:], 0.2)):
                follow(part, timeout, tell=queue.put, fail=queue.put_now, include_foreign=True)
            told = [queue.get(LONG) for _ in followed]
        finally:
            for each in followed:
                each.close()
    news = dict(told)
    assert set(news) == set(followed)
    for host in followed[:2]:
        first = news[host]
        assert isinstance(first, Resynced)
        assert [instance.name for instance in first.snapshot.instances] == [ONE.name]
    assert isinstance(news[followed[2]], ConnectionLost | ConnectionFailed)
    wait_until(lambda: not any(each.name == "guestlist-follow" for each in threading.enumerate()))


def test_a_view_that_is_closed_before_it_is_in_step_is_not_waited_for(deaf: socket.socket) -> None:
    """Its thread looked again without a pause, until the time of the host was over."""
    live = Inventory(uri_of(deaf))
    live.start()
    live.close()
    with pytest.raises(NotSynced, match="it was closed"):
        await_step(live, timeout=1.0)


def test_of_a_host_that_is_closed_nothing_is_told(deaf: socket.socket) -> None:
    told: list[object] = []
    with hosts(uri_of(deaf)) as [host]:
        followed = FollowedHost(host, details=False)
        follow([followed], LONG, tell=told.append, fail=told.append)
        followed.close()
        wait_until(lambda: all(each.name != "guestlist-follow" for each in threading.enumerate()))
    assert told == []

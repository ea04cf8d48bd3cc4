"""The fleet that the options name, and the exit status of what it told.

In: options. Out: a fleet, or one look at it; a line on standard error for each host that is
missing. What is open is closed when a signal ends the run.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import guestlist
from guestlist.cli import ending, etcd_options, exits, hosts, live_hosts
from guestlist.cli.exits import Exit
from guestlist.cli.fleet import guests
from guestlist.cli.fleet.options import asks_hosts
from guestlist.cli.ls import selection
from guestlist.cli.show import terminal, words
from guestlist.cli.show.progress import Progress
from guestlist.errors import GuestlistError, short
from guestlist.fleet import over
from guestlist.fleet.reading import Fleet
from guestlist.fleet.rows import FleetSnapshot, HostState
from guestlist.host import Host
from guestlist.launcher import LaunchedBy
from guestlist.settings_file import BadSettings
from guestlist.several import hosts_file

__all__ = ["asks_hosts", "failed", "fleet", "look", "named_hosts", "verdict"]

log = logging.getLogger(guestlist.__name__)

NO_HOSTS = "the fleet has no hosts: no agent has published to it under this name"

_ROUNDS = 3
"""All hosts together have so many times the seconds of one."""


class NoFleet(GuestlistError):
    """The fleet that the options name cannot be."""


def named_hosts(
    options: argparse.Namespace, launched_by: LaunchedBy | None = None
) -> dict[str, Host]:
    """Return the hosts of the file and of -c by name, not yet opened. Their log is shown.

    `launched_by` says which domains are ours; None: those that the options mean.

    Raises:
        NoFleet: the file cannot be used.
    """
    try:
        listed = hosts_file.distinct_hosts(Path(options.hosts)) if options.hosts else {}
    except BadSettings as error:
        raise NoFleet(str(error)) from error
    given = [uri for uri in hosts.each_once(options.connect) if uri] if options.connect else []
    named = listed | {_name(uri, options, listed): uri for uri in given}
    made = hosts.made(list(named.values()), options, launched_by or selection.ours(options))
    return dict(zip(named, made, strict=True))


def _name(uri: str, options: argparse.Namespace, listed: Mapping[str, str]) -> str:
    """Return the name of a host of -c: its alias, unless another host of the file has that name."""
    alias: str | None = options.aliases.get(uri)
    return uri if alias is None or listed.get(alias, uri) != uri else alias


def fleet(options: argparse.Namespace, *, details: bool = True) -> Fleet:
    """Return the fleet, closed when a signal ends the run.

    Raises:
        GuestlistError: the fleet cannot be: a file cannot be read, there are too many hosts.
    """
    try:
        if asks_hosts(options):
            found = Fleet.over(named_hosts(options), details=details, timeout=options.timeout)
        else:
            hosts.show_log(verbose=options.verbose)
            found = Fleet(
                etcd_options.members(options),
                fleet=options.fleet,
                tls=etcd_options.tls(options),
                login=etcd_options.login(options),
                timeout=min(options.timeout, 5.0),
            )
    except OSError as error:
        raise NoFleet(f"cannot read {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise NoFleet(str(error)) from error
    ending.on_end(found.close)
    return found


def look(
    options: argparse.Namespace, *, details: bool, launched_by: LaunchedBy | None = None
) -> FleetSnapshot:
    """Return the fleet as it is now. `launched_by` as for `named_hosts`.

    Raises:
        GuestlistError: it cannot be looked at.
    """
    if asks_hosts(options):
        live_hosts.mute_stale(verbose=options.verbose)
        asked = named_hosts(options, launched_by)
        with Progress() as progress:
            progress.domains_of(asked.values())
            return over.look(
                asked,
                details=details,
                timeout=options.timeout,
                deadline=_ROUNDS * options.timeout,
                tell=progress.hosts,
            )
    with fleet(options) as found, Progress() as progress:
        return found.snapshot(progress.domains)


def failed(error: GuestlistError) -> Exit:
    """Print why the fleet could not be looked at, and return the status."""
    log.debug("the failure in full:", exc_info=error)
    terminal.complain(str(error))
    return exits.verdict(0, [error])


def verdict(options: argparse.Namespace, snapshot: FleetSnapshot, chosen: guests.Filter) -> Exit:
    """Print whether the snapshot is complete, or each host that is missing; return the status.

    The line counts all guests, and those that match where these are fewer.

    Where there is nothing to show: `FAILED` for a fleet without hosts; `DENIED` if each host has
    refused this user; else `UNREACHABLE`.
    """
    if not snapshot.hosts:
        terminal.complain(NO_HOSTS)
        return Exit.FAILED
    complain_of(snapshot.incomplete)
    for project in () if asks_hosts(options) else chosen.projects_without(snapshot.values()):
        terminal.complain(
            f"no guest belongs to project {short(project)}; from an etcd --project takes its id in "
            "Keystone"
        )
    if unjudged := chosen.unjudged(snapshot.values()):
        terminal.complain(unjudged)
    matching = sum(map(chosen.matches, snapshot.values()))
    of_them = "" if matching == len(snapshot) else f"; {matching:,} of them match"
    if snapshot.complete:
        terminal.complain(
            f"complete: {words.number(len(snapshot), 'guest')} on "
            f"{words.number(len(snapshot.hosts), 'host')}{of_them}"
        )
        return Exit.OK
    if asks_hosts(options) and not any(each.synced for each in snapshot.hosts):
        return Exit.DENIED if all(each.denied for each in snapshot.hosts) else Exit.UNREACHABLE
    terminal.complain(
        f"not complete: {len(snapshot.incomplete):,} of {words.number(len(snapshot.hosts), 'host')}"
        f" missing; {words.number(len(snapshot), 'guest')} known{of_them}"
    )
    return Exit.PARTIAL


def complain_of(states: Iterable[HostState]) -> None:
    """Print each host that is missing, and why."""
    for each in states:
        terminal.complain(in_words(each))


def in_words(state: HostState) -> str:
    """Return why a host is missing: `node1 unknown since 2026-…: its agent holds no lease`."""
    since = f" since {words.instant(state.since)}" if state.since else ""
    status = "syncing" if state.live else f"unknown{since}"
    return f"{short(state.host)} {status}: {state.failure or 'no reason is known'}"

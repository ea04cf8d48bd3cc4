"""The options of `guestlist fleet` that say which fleet, and which of its guests.

In: the parser of a command. Out: the same, with options added; and the options checked. Asks no
host and no etcd.
"""

from __future__ import annotations

import argparse

from guestlist.cli import etcd_options, filters
from guestlist.cli import options as common

NOTE = f"""\
hosts.yml has lines such as 'node1: qemu+tls://node1/system'. With --hosts or -c the hosts
themselves are asked, now; with --endpoints only the etcd is.

{etcd_options.NOTE}"""

TIMEOUT = 10.0
"""Seconds that one host has to answer, unless the user says more."""

_MEMBERS_PATIENCE = "how long a member of the etcd may take to answer, at most 5"

_HOSTS_PATIENCE = (
    "how long a host may take to answer, the time to type a password included; all hosts together "
    "have three times as long, a member of an etcd has at most 5"
)


def add_sources(command: argparse.ArgumentParser, *, hosts: bool = True) -> None:
    """Add the options that name a fleet: its hosts, or the etcd to which they publish."""
    if hosts:
        command.add_argument(
            "--hosts", metavar="FILE", help="the hosts to ask: their names and URIs, in YAML"
        )
        command.add_argument(
            "-c",
            "--connect",
            metavar="URI",
            type=common.uri,
            action="append",
            help="a host to ask, by libvirt URI or by its alias in the configuration file; may be "
            "repeated",
        )
    common.add_patience(command, _HOSTS_PATIENCE if hosts else _MEMBERS_PATIENCE)
    command.set_defaults(timeout=TIMEOUT)
    etcd_options.add_etcd(command)


def check_sources(options: argparse.Namespace, command: argparse.ArgumentParser) -> None:
    """Refuse no fleet, and two; set `endpoints` from the environment where no host is given."""
    if getattr(options, "hosts", None) == "":
        command.error("--hosts is empty")
    if asks_hosts(options):
        if options.endpoints is not None:
            command.error("--endpoints names a fleet in etcd, --hosts and -c name hosts: give one")
        for option in etcd_options.given(options):
            command.error(f"{option} goes with --endpoints, not with --hosts or -c")
        return
    etcd_options.fill_in(options)
    if options.endpoints is None:
        command.error(
            "which fleet? Give --endpoints of an etcd"
            + (", or the hosts with --hosts FILE or -c URI" if hasattr(options, "hosts") else "")
        )
    for option in _means_ours(options):
        command.error(
            f"{option} goes with --hosts or -c: an etcd has what each agent says of its domains"
        )
    etcd_options.check(options, command)


def _means_ours(options: argparse.Namespace) -> list[str]:
    """Return the options that were given of those that say which domains Nova launched."""
    names = {"--name-template": "name_template", "--verify": "verify"}
    return [
        option
        for option, name in names.items()
        if hasattr(options, name) and name not in options.filled_in
    ]


def asks_hosts(options: argparse.Namespace) -> bool:
    """Return whether the options name hosts to ask, and not an etcd."""
    return bool(getattr(options, "hosts", None) or getattr(options, "connect", None))


def add_guests(command: argparse.ArgumentParser, title: str, usual: str) -> None:
    """Add the options that choose guests, where inactive ones are among them anyway."""
    group = command.add_argument_group(title, usual)
    group.add_argument(
        "-a",
        "--all",
        "--foreign",
        dest="foreign",
        action="store_true",
        help="also those that others launched",
    )
    common.add_ours(group)
    add_filters(group)


def add_filters(group: argparse._ActionsContainer) -> None:
    """Add the options that choose guests by host, and those of `filters`."""
    group.add_argument(
        "--on",
        metavar="HOST",
        action="append",
        help="only those on this host; * and ? stand for any characters; may be repeated",
    )
    filters.add_filters(group, "by its id in Keystone, or by its name where the hosts are asked")

"""The values that complete an argument of the command.

In: what argcomplete hands to a completer: the beginning of the word, the argument, the options so
far. Out: words that begin so. Raises nothing: where a value cannot be known there is none. Only
`domain_names` asks a host.

To complete another argument, give it one of these: `command.add_argument(…).completer = …`, or a
metavar of `BY_METAVAR`. A name that holds a control character is left out: it cannot be typed.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

import guestlist
from guestlist.cli import configuration
from guestlist.cli.filters import LAUNCHERS, STATES

LONGEST = 1.5
"""Seconds that the hosts have to name their domains; with the start of the command, under two."""

_LOCAL = ("qemu:///system", "qemu:///session", "xen:///system", "test:///default")


def domain_names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Return the names of all domains, of the hosts that the options name or of the default host.

    Cost: a connection and 1 call for each host, at most `LONGEST` seconds.
    """
    aliases = configuration.aliases()
    given = [aliases.get(each, each) for each in getattr(parsed_args, "connect", None) or ()]
    names = _names_of_domains(tuple(dict.fromkeys(given)) or (None,))
    return _typable(prefix, names, dashes=" -- " in os.environ.get("COMP_LINE", ""))


def patterns(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Return a pattern for each name that `domain_names` returns: it matches this name alone."""
    return _typable(prefix, map(escape, domain_names("", parsed_args)))


def hosts(prefix: str, **_: object) -> list[str]:
    """Return the aliases of hosts, and the URIs of this machine's."""
    return _typable(prefix, (*configuration.aliases(), *_LOCAL))


def host_names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Return the names of hosts: aliases, and those of the file of --hosts."""
    return _typable(prefix, (*configuration.aliases(), *_hosts_of_file(parsed_args)))


def columns(prefix: str, action: Any, **_: object) -> list[str]:
    """Return the columns that `--columns a,b` does not name yet, each after those that it does."""
    return _after_commas(prefix, [*action._known, *([] if "," in prefix else ["help"])])


def launchers(prefix: str, **_: object) -> list[str]:
    """Return the launchers that `--launcher a,b` does not name yet, as for `columns`."""
    return _after_commas(prefix, LAUNCHERS)


def states(prefix: str, **_: object) -> list[str]:
    """Return the states that `--state a,b` does not name yet; a hyphen stands for a blank."""
    return _after_commas(prefix, [state.replace(" ", "-") for state in STATES])


def files(prefix: str, **_: object) -> list[str]:
    """Return the files and directories; those that begin with a dot only after a dot."""
    folder, slash, start = prefix.rpartition("/")
    try:
        found = sorted(Path(f"{folder}{slash}").expanduser().iterdir())
        names = [f"{each.name}/" if each.is_dir() else each.name for each in found]
    except (OSError, RuntimeError):
        return []
    shown = (name for name in names if start.startswith(".") or not name.startswith("."))
    return _typable(prefix, (f"{folder}{slash}{name}" for name in shown))


BY_METAVAR: dict[str, Callable[..., list[str]]] = {
    "A,B,…": columns,
    "DOMAIN": domain_names,
    "FILE": files,
    "HOST": host_names,
    "LAUNCHER,…": launchers,
    "PATTERN": patterns,
    "STATE,…": states,
    "URI": hosts,
    "URI|SOCKET": hosts,
}
"""The function that completes an argument with this metavar."""


def by_metavar(prefix: str, action: argparse.Action, **others: Any) -> list[str]:
    """Return what the argument's metavar says; nothing for another metavar."""
    if action.dest == "host":  # its metavar is NAME
        return host_names(prefix, **others)
    completer = BY_METAVAR.get(str(action.metavar))
    return completer(prefix, action=action, **others) if completer else []


@cache
def _names_of_domains(uris: tuple[str | None, ...]) -> list[str]:
    """Ask the hosts, side by side. One that cannot be asked has no names."""
    from guestlist import process  # noqa: PLC0415  not for other arguments
    from guestlist.host import Host  # noqa: PLC0415
    from guestlist.launcher import Anyone  # noqa: PLC0415
    from guestlist.several.asking import HostAnswer, ask_in_order  # noqa: PLC0415

    process.quiet()
    log = logging.getLogger(guestlist.__name__)
    log.addHandler(logging.NullHandler())
    log.propagate = False

    def names(host: Host) -> list[str]:
        with host:
            found = host.list_instance_domains(include_inactive=True, include_dom0=True)
            return [domain.name() for domain in found]

    asked = [
        Host(uri, readonly=True, launched_by=Anyone(), open_timeout=LONGEST, prompts=False)
        for uri in uris
    ]
    outcomes = ask_in_order(asked, names, timeout=LONGEST, deadline=LONGEST)
    return sorted(
        {name for each in outcomes if isinstance(each, HostAnswer) for name in each.value}
    )


def _hosts_of_file(parsed_args: argparse.Namespace) -> Mapping[str, str]:
    path = getattr(parsed_args, "hosts", None)
    if not isinstance(path, str):
        return {}
    from guestlist.settings_file import BadSettings, Files  # noqa: PLC0415
    from guestlist.several import hosts_file  # noqa: PLC0415

    try:
        return hosts_file.uris_in(Path(path).expanduser(), Files())
    except (BadSettings, ImportError, RuntimeError):  # ImportError: PyYAML is not there
        return {}


def _after_commas(prefix: str, known: Iterable[str]) -> list[str]:
    """Return the words that a list with commas does not have yet, each after those that it has."""
    before, comma, _rest = prefix.rpartition(",")
    return _typable(
        prefix, (f"{before}{comma}{name}" for name in known if name not in before.split(","))
    )


def _typable(prefix: str, words: Iterable[str], *, dashes: bool = False) -> list[str]:
    """Return the words that begin so and can be typed; with `dashes` also those like `-x`."""
    return [
        word
        for word in words
        if word.startswith(prefix) and word.isprintable() and (dashes or not word.startswith("-"))
    ]

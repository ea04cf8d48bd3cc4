"""Print what the libvirt of a host can do, and what to upgrade.

In: capabilities, which guestlist finds out by trying. Out: a block of lines per host, or records. A
missing ability is no failure: the listing works without it, only slower, and the exit status stays
0. The table of what came with which libvirt is `capabilities.ABILITIES`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from guestlist.capabilities import ABILITIES, Capabilities, remedy, version_text
from guestlist.cli import hosts
from guestlist.cli.exits import Exit
from guestlist.cli.show import terminal
from guestlist.cli.show.render import as_json, as_yaml
from guestlist.host import Host


def run(options: argparse.Namespace) -> Exit:
    """Ask each host what it can do, and print that."""
    replies, status = hosts.ask(options, Host.capabilities)
    if replies:
        found = [reply.value for reply in replies]
        match options.format:
            case "json":
                text = as_json([_record(capabilities) for capabilities in found])
            case "yaml":
                text = as_yaml([_record(capabilities) for capabilities in found])
            case _:
                text = "\n".join(_block(capabilities) for capabilities in found)
        terminal.write(text)
    return status


def _record(capabilities: Capabilities) -> dict[str, object]:
    versions = capabilities.versions
    return {
        "host": capabilities.uri,
        "client": version_text(versions.client),
        "daemon": version_text(versions.daemon),
        "driver": versions.driver,
        "driver_version": version_text(versions.hypervisor),
        **{ability.name: getattr(capabilities, ability.name) for ability in ABILITIES},
        "upgrade": list(upgrades(capabilities)),
    }


def _block(capabilities: Capabilities) -> str:
    versions = capabilities.versions
    said = {True: "yes", False: "no", None: "not needed"}
    facts = {
        "client library": version_text(versions.client),
        "daemon": version_text(versions.daemon) if capabilities.keepalive is not None else "none",
        "driver": f"{versions.driver} {version_text(versions.hypervisor)}",
        **{ability.words: said[getattr(capabilities, ability.name)] for ability in ABILITIES},
    }
    advice = list(upgrades(capabilities)) or ["nothing to upgrade"]
    lines = [
        terminal.escape(capabilities.uri),
        *(f"  {fact:<18}{terminal.escape(found)}" for fact, found in facts.items()),
        *(f"  {terminal.escape(line)}" for line in advice),
    ]
    return "".join(f"{line}\n" for line in lines)


def upgrades(capabilities: Capabilities) -> Iterator[str]:
    """Yield a line for each missing ability: what it would be good for, and what to upgrade."""
    for ability in ABILITIES:
        if getattr(capabilities, ability.name) is False:
            yield f"{ability.worth}: {remedy(ability, capabilities.versions)}"

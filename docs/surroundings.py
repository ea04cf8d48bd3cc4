"""What a command reads besides its words: variables of the environment, and files.

In: a page of a command. Out: those that have a meaning for it, or for a command below it. A fact is
here once, for the manual and for the site.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from command_pages import Page, every
from guestlist.cli import configuration, etcd_options


class Surrounding(NamedTuple):
    """A variable or a file, and the options by which a command shows that it reads it."""

    name: str
    about: str
    options: tuple[str, ...]


VARIABLES = (
    Surrounding("LIBVIRT_DEFAULT_URI", "the host, where no -c is given", ("--connect",)),
    Surrounding(
        "LIBVIRT_DEBUG, LIBVIRT_LOG_FILTERS, LIBVIRT_LOG_OUTPUTS",
        "libvirt's own log. If one of them is set, guestlist leaves that log alone; otherwise only "
        "-v shows it",
        ("--verbose",),
    ),
    *(
        Surrounding(variable, f"stands for --{option} where that is not given", ("--endpoints",))
        for option, variable in etcd_options.VARIABLES.items()
    ),
    Surrounding(etcd_options.PASSWORD, "the password of --user", ("--endpoints",)),
    Surrounding(
        "OS_CLIENT_CONFIG_FILE", "the path of clouds.yaml, where it is elsewhere", ("--os-cloud",)
    ),
    Surrounding(
        configuration.VARIABLE,
        "the configuration file, where it is elsewhere; /dev/null: none is read",
        ("--connect",),
    ),
    Surrounding(
        "XDG_CONFIG_HOME", "the directory of the configuration file: ~/.config", ("--connect",)
    ),
    Surrounding("NO_COLOR", "if it is set and not empty, a table has no colours", ("--format",)),
    Surrounding("COLUMNS", "the width of the terminal, in cells", ("--help",)),
    Surrounding("TZ", "the time zone of the times that are shown", ("--once",)),
    Surrounding("PYTHONIOENCODING", "the encoding of the output: utf-8", ("--raw",)),
)

FILES = (
    Surrounding(
        "~/.config/guestlist.toml",
        "the configuration file: aliases of hosts, and values of options. docs/configuration.md in "
        "guestlist's source has its keys",
        ("--connect",),
    ),
    Surrounding(
        "/etc/libvirt/libvirt.conf, ~/.config/libvirt/libvirt.conf",
        "libvirt's default host (uri_default), and its own aliases of hosts (uri_aliases)",
        ("--connect",),
    ),
    Surrounding(
        "hosts.yml",
        "the file of --hosts or --probe.targets, under any name. A line for each host, its name "
        "and its libvirt URI: node1: qemu+tls://node1/system",
        ("--hosts", "--probe.targets"),
    ),
    Surrounding(
        "web.yml",
        "the file of --web.config.file, under any name: TLS and users, as exporter-toolkit has "
        "them",
        ("--web.config.file",),
    ),
    Surrounding(
        "./clouds.yaml, ~/.config/openstack/clouds.yaml, /etc/openstack/clouds.yaml",
        "where openstacksdk looks for the cloud of --os-cloud",
        ("--os-cloud",),
    ),
)


def variables(page: Page) -> Iterator[Surrounding]:
    """Yield the variables that have a meaning for the command."""
    return _of(page, VARIABLES)


def files(page: Page) -> Iterator[Surrounding]:
    """Yield the files that have a meaning for the command."""
    return _of(page, FILES)


def _of(page: Page, known: tuple[Surrounding, ...]) -> Iterator[Surrounding]:
    options = frozenset[str]().union(*(each.options for each in every(page)))
    return (each for each in known if options.intersection(each.options))

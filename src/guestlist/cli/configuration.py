"""The configuration file of the command: aliases of hosts, and values of options.

In: the environment, and a file in TOML: the one that GUESTLIST_CONFIG names, else guestlist.toml in
$XDG_CONFIG_HOME (~/.config). Out: its settings; and options in which aliases of hosts are replaced
by URIs. An option that is given wins. Only the command reads the file, the library never does.

    name_template = "vm-%(uuid)s"
    columns = ["name", "state", "project"]

    [hosts]
    node1 = "qemu+ssh://root@node1/system"

A command without such a file pays one look at the file system: `configuration_file`, and tomllib
with it, is imported only if there is one. --help, --version and `completion` do not look.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from guestlist import uris
from guestlist.cli.exits import Exit
from guestlist.cli.options import NAME_TEMPLATE
from guestlist.cli.settings import Settings
from guestlist.cli.show import terminal
from guestlist.errors import short

if TYPE_CHECKING:
    import argparse

VARIABLE = "GUESTLIST_CONFIG"
"""The variable that names another file. /dev/null: none is read."""

_NAME = "guestlist.toml"


def path() -> str | None:
    """Return the file to read; None: there is none.

    A file that GUESTLIST_CONFIG names is returned also if it is not there: to read it is an error.
    """
    given = os.environ.get(VARIABLE)
    if given:
        return None if given == os.devnull else given
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):  # the specification says to ignore it then
        folder = os.path.expanduser("~/.config")
    usual = os.path.join(folder, _NAME)
    try:
        os.stat(usual)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except OSError:
        return usual  # to read it says why
    return usual if os.path.isabs(usual) else None


def read() -> Settings:
    """Return what the file says.

    Raises:
        BadSettings: the file cannot be used. The message is one line and names the file.
    """
    found = path()
    if found is None:
        return Settings()
    from guestlist.cli.configuration_file import settings_in  # noqa: PLC0415  only if there is one

    return settings_in(found)


def aliases() -> Mapping[str, str]:
    """Return the URIs of the file by alias; none if the file cannot be used. For completion."""
    try:
        return read().hosts
    except Exception:
        return {}


def fill_in(options: argparse.Namespace) -> None:
    """Take from the file what the command line leaves open, and replace aliases by their URIs.

    Sets `aliases` (the alias of each URI that was given by one), `usual_columns`, and `filled_in`:
    the names of the options that were not given and have a value now. A command that has a template
    of names reads the file; another one only if a word in the place of a URI is none. Ends the
    process with status 2 if the file cannot be used.
    """
    given = getattr(options, "connect", None)
    words = [given] if isinstance(given, str) else given or []
    has_template = hasattr(options, "name_template")
    settings = Settings()
    if has_template or any(":" not in word for word in words):
        settings = _read_or_end()
    for word in words if settings.hosts else ():
        _tell_if_unknown(word, settings.hosts)
    options.aliases = {settings.hosts[word]: word for word in words if word in settings.hosts}
    if words:
        found = [settings.hosts.get(word, word) for word in words]
        options.connect = found[0] if isinstance(given, str) else found
    options.usual_columns = settings.columns
    values = {
        "name_template": settings.name_template or NAME_TEMPLATE,
        "verify": bool(settings.verify),
    }
    options.filled_in = {name for name in values if getattr(options, name, "") is None}
    for name in options.filled_in:
        setattr(options, name, values[name])


def _tell_if_unknown(word: str, known: Mapping[str, str]) -> None:
    """Print that a word is no alias, where it is neither a URI nor an alias of libvirt.conf."""
    if ":" in word or word in known or uris.resolved(word) != word:
        return
    from difflib import get_close_matches  # noqa: PLC0415  for a message only

    near = get_close_matches(word[:100], known, n=1)
    question = f"; is it '{near[0]}'?" if near else ""
    terminal.complain(f"the configuration file has no host '{short(word)}'{question}")


def _read_or_end() -> Settings:
    if path() is None:
        return Settings()
    from guestlist.settings_file import BadSettings  # noqa: PLC0415  likewise

    try:
        return read()
    except BadSettings as error:
        terminal.complain(str(error))
        sys.exit(Exit.USAGE)

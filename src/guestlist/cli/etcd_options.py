"""The options that name an etcd, a fleet in it, and who asks. The environment fills in for them.

In: a command's parser; then its options. Out: the same parser; then the etcd as values. The names
of the options and of the environment's variables are etcdctl's. Opens nothing, and imports neither
grpc nor protobuf.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from guestlist.errors import short

if TYPE_CHECKING:
    from guestlist.fleet.etcd.endpoints import Login, Tls

FLEET = "default"
"""The name of a fleet where none is given."""

VARIABLES = {
    "endpoints": "ETCDCTL_ENDPOINTS",
    "cacert": "ETCDCTL_CACERT",
    "cert": "ETCDCTL_CERT",
    "key": "ETCDCTL_KEY",
    "user": "ETCDCTL_USER",
}
"""The variable of the environment that stands for an option that is not given."""

PASSWORD = "ETCDCTL_PASSWORD"  # noqa: S105  the name of a variable

NOTE = """\
The options that name the etcd are those of etcdctl. An option that is not given is taken
from the variable that etcdctl has for it: ETCDCTL_ENDPOINTS, ETCDCTL_CACERT, ETCDCTL_CERT,
ETCDCTL_KEY or ETCDCTL_USER. The password of --user is in ETCDCTL_PASSWORD: every user of
this machine would see it on the command line.
"""


def add_etcd(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that name an etcd and a fleet in it, and return their group."""
    group = command.add_argument_group(
        "a fleet in etcd", "Its hosts publish their domains there (guestlist agent)."
    )
    group.add_argument(
        "--endpoints",
        metavar="HOST:PORT,…",
        help="the members of the etcd, each by its own address",
    )
    group.add_argument(
        "--fleet",
        metavar="NAME",
        default=FLEET,
        help="the name of the fleet in that etcd (default: %(default)s)",
    )
    group.add_argument(
        "--cacert", metavar="FILE", help="the authority of the members' certificates"
    )
    group.add_argument("--cert", metavar="FILE", help="the certificate of this client")
    group.add_argument("--key", metavar="FILE", help="the key of that certificate")
    group.add_argument(
        "--user", metavar="NAME", help=f"a user with a password, which is in {PASSWORD}"
    )
    return group


def given(options: argparse.Namespace) -> list[str]:
    """Return the options of an etcd that are on the command line. Call it before `fill_in`."""
    found = [f"--{name}" for name in VARIABLES if getattr(options, name) is not None]
    return found if options.fleet == FLEET else ["--fleet", *found]


def fill_in(options: argparse.Namespace) -> None:
    """Take from the environment what the command line does not say."""
    for option, variable in VARIABLES.items():
        if getattr(options, option) is None:
            setattr(options, option, os.environ.get(variable) or None)


def check(options: argparse.Namespace, command: argparse.ArgumentParser) -> None:
    """Refuse an etcd that cannot be: no endpoint, half a certificate, a user without a password.

    Refuse a name that cannot be one of a fleet, or of a host that the command has.
    """
    from guestlist.fleet.layout import valid_name  # noqa: PLC0415  not for --help

    try:
        valid_name(options.fleet, "fleet")
        given = getattr(options, "host", None) or []
        for host in [given] if isinstance(given, str) else given:
            valid_name(host)
        members(options)
        tls(options)
        login(options)
    except ValueError as error:
        command.error(str(error))


def members(options: argparse.Namespace) -> list[str]:
    """Return the members.

    Raises:
        ValueError: one is no address.
    """
    from guestlist.fleet.etcd.endpoints import endpoints  # noqa: PLC0415  not for --help

    given = [each.strip() for each in (options.endpoints or "").split(",") if each.strip()]
    endpoints(given, tls=tls(options) is not None)
    return given


def tls(options: argparse.Namespace) -> Tls | None:
    """Return how to speak TLS; None: plain text, where neither a file nor https is given.

    Raises:
        ValueError: a certificate without its key, or a key without its certificate.
    """
    from guestlist.fleet.etcd.endpoints import Tls  # noqa: PLC0415  not for --help

    ca, certificate, key = (
        Path(each) if each else None for each in (options.cacert, options.cert, options.key)
    )
    if not (ca or certificate or key) and "https://" not in (options.endpoints or ""):
        return None
    return Tls(ca, certificate, key)


def login(options: argparse.Namespace) -> Login | None:
    """Return the user and the password; None without a user.

    Raises:
        ValueError: there is no password.
    """
    from guestlist.fleet.etcd.endpoints import Login  # noqa: PLC0415  not for --help

    if options.user is None:
        return None
    user, _, password = options.user.partition(":")
    password = password or os.environ.get(PASSWORD, "")
    if not password:
        raise ValueError(f"--user {short(user)} has no password: put it into {PASSWORD}")
    return Login(user, password)

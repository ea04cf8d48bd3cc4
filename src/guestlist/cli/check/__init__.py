"""`guestlist check`: its options. `run` asks the hosts and prints."""

from __future__ import annotations

import argparse

from guestlist.cli import options as common

ABOUT = "show what this libvirt can do, and what to upgrade"

EXAMPLES = """\
examples:
  guestlist check
  guestlist check -c qemu+ssh://node1/system -c qemu+ssh://node2/system -f json

The exit status is 0 also if there is something to upgrade: guestlist lists the
domains of an old libvirt as well, in more calls.
"""


def add_options(check: argparse.ArgumentParser) -> None:
    """Add the options of `check`."""
    common.add_hosts(check)
    common.add_format(check, ("table", "json", "yaml"))

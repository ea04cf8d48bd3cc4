"""`guestlist fleet audit`: its options, and what it does with them.

In: the parser of the command. Out: the same, with the options of `fleet audit`.

    run     makes the audit of one host or several, over the hosts of a fleet
    looks   the hosts of a fleet in an etcd, as an audit looks at them
"""

from __future__ import annotations

import argparse

from guestlist.cli import audit
from guestlist.cli import options as common
from guestlist.cli.fleet import options as of_fleet

ABOUT = "compare what the hosts of a fleet run with what Nova believes, and change nothing"

EXAMPLES = f"""\
examples:
  guestlist fleet audit --endpoints etcd1:2379 --os-cloud admin
      all hosts that publish to this etcd, at one revision, against Nova itself
  guestlist fleet audit --endpoints etcd1:2379 --os-cloud admin --watch=300
      what is new and what is resolved, every five minutes
  guestlist fleet audit --hosts hosts.yml --os-cloud admin
      the hosts of the file, which are asked: the same as 'guestlist audit'

Findings, certainty and formats are those of 'guestlist audit'. From an etcd all hosts are
read at one revision, and a finding is certain only if a later revision confirms it. A host
whose agent is silent is 'incomplete', and its guests are no findings. An etcd has no disks
and no tap devices: those findings need 'guestlist audit' on the host. If two hosts have a
domain and one copy is shut off, only an audit that asks the hosts finds it.

{of_fleet.NOTE}
{common.CSV_NOTE}"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `fleet audit`."""
    of_fleet.add_sources(command)
    audit.add_comparison(command)


def check_options(options: argparse.Namespace, command: argparse.ArgumentParser) -> None:
    """Refuse options that exclude each other; set `exact`."""
    audit.check_options(options, command)
    of_fleet.check_sources(options, command)

"""`guestlist show`: its options, and what it does with them.

In: the parser of the command. Out: the same, with the options of `show`. The package has not the
command's name: `show` is what shows things.

    run        asks the hosts and prints
    matching   which domains the words of the command line mean    (pure)
    found      a domain that was found, and the sizes of its disks
    lines      a domain for people: lines of a name and a value
    records    a domain for programs: what JSON and YAML carry
"""

from __future__ import annotations

import argparse

from guestlist.cli import options as common

ABOUT = "show all that is known about some domains"

WAYS = ("id", "uuid", "name", "nova_name")
"""How a word may name a domain, by the columns of `guestlist ls`."""

EXAMPLES = """\
examples:
  guestlist show instance-0000002a
      the domain of that name on this host, active or not, of any launcher
  guestlist show 7 5f0c1bde-0000-4000-8000-000000000001
      two domains: by libvirt's id, and by UUID
  guestlist show -c qemu+ssh://node1/system -c qemu+ssh://node2/system instance-0000002a
      found on any of these hosts; a domain that migrates is on two of them
  guestlist show --by name 7
      the domain whose name is 7
  guestlist show --by nova_name web-1
      the servers that their owners gave this name
  guestlist show -- -x
      the domain whose name is -x
  guestlist show -f json instance-0000002a | jq -r '.[].details.disks[].source.location'
      where its disks are

A word is an id if it is a number and a domain has this id; else a UUID, in any
spelling that libvirt takes; else a name. So does virsh. If another domain has the word
for its name, standard error says so; --by name shows that one. Names that owners gave
in Nova are no names here, because tenants choose them and several may be equal: with
--by nova_name all servers of that name are shown.

Domains are shown in the order of the words, and then of the hosts. A host is asked for
all its domains in one call, and in one more for each domain that is shown; with --by
nova_name in one more for each domain that it has. Several hosts are asked once more
for a word that none of them has: its domain may have migrated meanwhile. Sizes of disks
are those of images on this machine, without a further call. No guest is asked.

A word for which no domain is found has a line on standard error. If a host failed, the
domain may be there: the exit status is then that of the failure. A control or
bidirectional character is shown as an escape; JSON and YAML carry exact text. Keys that
'guestlist ls' has too mean the same, and 'details' has the names of guestlist.Details;
docs/schemas/show.schema.json in guestlist's source has them all. A value that is not
known is null, and 'unknown' names it.
"""


def add_options(show: argparse.ArgumentParser) -> None:
    """Add the options of `show`."""
    show.add_argument(
        "domains",
        metavar="DOMAIN",
        nargs="+",
        type=_word,
        help="a domain by name, UUID or id, active or not, of any launcher; '--' goes before a "
        "name that begins with '-'",
    )
    common.add_hosts(show)
    which = show.add_argument_group("which domains")
    which.add_argument(
        "--by",
        metavar="COLUMN",
        choices=WAYS,
        help="take each word for this and nothing else: id, uuid, name; or nova_name, the name "
        "that the owner gave it in Nova",
    )
    common.add_ours(which)
    common.add_format(show.add_argument_group("how to show them"), ("text", "json", "yaml"))


def _word(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("no domain has an empty name, UUID or id")
    return text

"""The filters of the command: domains by name, state, launcher and project.

In: a command's parser; then its options; then instances. Out: the same parser; a filter; what
matches. `ls`, `usage`, `watch` and the commands of `fleet` have these options from here. Asks no
host, and imports no libvirt.

A filter widens what a command looks at where it could match nothing else: a state may be that of an
inactive domain, and a launcher other than Nova launches foreign domains.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from guestlist.cli.show import words
from guestlist.errors import short
from guestlist.launcher import Launcher
from guestlist.states import DomainState

if TYPE_CHECKING:
    from guestlist.records import Instance

STATES = tuple(sorted(map(str, DomainState)))
"""The words of --state: libvirt's, as virsh prints them."""

LAUNCHERS = tuple(map(str, Launcher))
"""The words of --launcher."""

_NO_NAME = "N/A"
"""The name of a project that Nova did not keep. Source: nova/virt/driver.py."""

_is_id = re.compile("[0-9a-f]{32}").fullmatch
"""Keystone's ids. A word of another form may be a name."""

NOTE = """\
Filters narrow the list. A domain must match each of them; of one that is given more
than once, or with commas, it must match one value. --state looks at inactive domains
too, and --launcher at those of that launcher, without another option. --project looks
at what the other options list: with -a at all. Put a pattern of --name between quotes,
so that the shell leaves it alone; --name=-x takes a name that begins with '-'.
"""


def add_filters(
    group: argparse._ActionsContainer,
    project: str = "by its name or its id in Keystone; costs one call per domain",
) -> None:
    """Add the options that choose domains. `project` says how projects are found, and the cost."""
    group.add_argument(
        "--name",
        dest="named",
        metavar="PATTERN",
        action="append",
        help="only those with this name in libvirt; * stands for any characters, ? for one, [ab] "
        "for a or b; may be repeated",
    )
    group.add_argument(
        "--state",
        metavar="STATE,…",
        type=_states,
        action="extend",
        help=f"only those in this state: {', '.join(STATES)}; may be repeated",
    )
    group.add_argument(
        "--launcher",
        metavar="LAUNCHER,…",
        type=_launchers,
        action="extend",
        help=f"only those of this launcher: {', '.join(LAUNCHERS)}; may be repeated",
    )
    group.add_argument(
        "--project",
        metavar="PROJECT",
        action="append",
        help=f"only those of this project, {project}; may be repeated",
    )


class Filter(NamedTuple):
    """Which domains to show: those that match each part. An empty part matches any domain."""

    names: tuple[str, ...] = ()
    """Patterns, as the shell's."""

    states: frozenset[str] = frozenset()
    launchers: frozenset[str] = frozenset()
    projects: frozenset[str] = frozenset()

    @classmethod
    def of(cls, options: argparse.Namespace) -> Filter:
        """Return the filter that the options describe."""
        return cls(
            names=tuple(options.named or ()),
            states=frozenset(options.state or ()),
            launchers=frozenset(options.launcher or ()),
            projects=frozenset(options.project or ()),
        )

    @property
    def is_given(self) -> bool:
        """Whether an option asks for some domains only."""
        return any(self)

    @property
    def names_only(self) -> bool:
        """Whether the name of a domain is enough to judge it."""
        return not (self.states or self.launchers or self.projects)

    @property
    def details(self) -> bool:
        """Whether the details of a domain are needed to judge it."""
        return bool(self.projects)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of domains, by the options of `guestlist ls`, that it makes a command list."""
        foreign = self.launchers - {str(Launcher.NOVA), str(Launcher.DOM0)}
        wanted = {
            "inactive": bool(self.states),
            "foreign": bool(foreign),
            "dom0": str(Launcher.DOM0) in self.launchers,
        }
        return frozenset(kind for kind, yes in wanted.items() if yes)

    def name_matches(self, name: str) -> bool:
        """Return whether a name is one of those to show."""
        if not self.names:
            return True
        from fnmatch import fnmatchcase  # noqa: PLC0415  for this option only

        return any(fnmatchcase(name, each) for each in self.names)

    def matches(self, instance: Instance) -> bool:
        """Return whether a domain is one of those to show. False if its project is not known."""
        return self._matches_without_project(instance) and (
            not self.projects or not self.projects.isdisjoint(projects(instance))
        )

    def is_unjudged(self, instance: Instance) -> bool:
        """Return whether only the project, which is not known, could make a domain match."""
        return (
            bool(self.projects)
            and not project_is_known(instance, by_name=not all(map(_is_id, self.projects)))
            and self._matches_without_project(instance)
            and not self.matches(instance)
        )

    def _matches_without_project(self, instance: Instance) -> bool:
        return (
            (not self.states or str(instance.state) in self.states)
            and (not self.launchers or str(instance.launcher) in self.launchers)
            and self.name_matches(instance.name)
        )

    def __str__(self) -> str:
        """Return the options that make this filter, for a message."""
        parts = {
            "--name": self.names,
            "--state": sorted(self.states),
            "--launcher": sorted(self.launchers),
            "--project": sorted(self.projects),
        }
        given = [f"{option} {','.join(values)}" for option, values in parts.items() if values]
        return short(" ".join(given))

    def without_match(self, looked_at: int, *, widest: bool) -> str:
        """Return why there is nothing to show, although there are domains to look at.

        `widest` says that every domain of the host was looked at.
        """
        more = "" if widest else "; with -a all domains are looked at"
        if looked_at == 1:
            return f"the only domain looked at does not match {self}{more}"
        return f"none of the {looked_at:,} domains looked at matches {self}{more}"

    def unjudged(self, instances: Iterable[Instance]) -> str | None:
        """Return how many domains cannot be judged, in words; None if each can."""
        count = sum(map(self.is_unjudged, instances))
        if not count:
            return None
        them = "it is" if count == 1 else "they are"
        return f"the project of {words.number(count, 'domain')} is not known, so {them} not shown"


def projects(instance: Instance) -> Sequence[str]:
    """Return the name and the id of the project that a domain belongs to, as far as known."""
    nova = instance.details and instance.details.nova
    owner = nova.owner if nova else None
    known = (owner.project_name, owner.project_id) if owner else ()
    return [each for each in known if each is not None]


def project_is_known(instance: Instance, *, by_name: bool = True) -> bool:
    """Return whether it is known to which project a domain belongs, or that it belongs to none.

    It is not known without the domain's XML, or with XML that cannot be read to its end; and of a
    domain that Nova launched and whose metadata has no project. With `by_name` the project's name
    must be known: of older servers Nova knows the id only, and writes N/A.
    """
    details = instance.details
    if details is None:
        return False
    if known := projects(instance):
        has_name = _NO_NAME not in known and "nova: project" not in details.unknown
        return "nova: project uuid" not in details.unknown and (has_name or not by_name)
    is_whole = not any(what == "domain" or what.startswith("xml: ") for what in details.unknown)
    return is_whole and details.nova is None and instance.launcher is not Launcher.NOVA


def _states(text: str) -> list[str]:
    return _chosen(text.replace("-", " "), STATES, "state")


def _launchers(text: str) -> list[str]:
    return _chosen(text, LAUNCHERS, "launcher")


def _chosen(text: str, known: Sequence[str], what: str) -> list[str]:
    """Return the words of a text with commas, in any case; refuse one that is unknown."""
    found = [word.strip().lower() for word in text.split(",")]
    for word in found:
        if word not in known:
            raise argparse.ArgumentTypeError(
                f"there is no {what} '{word}'; there are: {', '.join(known)}"
            )
    return found

"""Who launched a domain, and which launchers are ours.

In: a domain's name, which every list carries, and the namespaces of its `<metadata>`, which cost a
call. Out: a verdict. The name decides where it can; None means that it cannot. Touches no libvirt:
`ownership` asks for the metadata, and remembers it.

Source: Nova nova/objects/instance.py (`Instance.name`), nova/virt/libvirt/config.py; libguestfs
lib/launch-libvirt.c (the appliance's random name).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Protocol

from guestlist.errors import InvalidNameTemplate, short

NOVA_NAMESPACE = "http://openstack.org/xmlns/libvirt/nova/"
"""The start of Nova's metadata namespaces: 1.0 since Juno, 1.1 since Wallaby, and later ones."""

NOVA_NAMESPACES = (f"{NOVA_NAMESPACE}1.1", f"{NOVA_NAMESPACE}1.0")
"""Nova's namespaces so far, by their exact names: libvirt's call for one needs that."""


class Launcher(Enum):
    """Who launched a domain. The value is the word that users read."""

    NOVA = "nova"
    LIBGUESTFS = "libguestfs"
    DOM0 = "dom0"
    KUBEVIRT = "kubevirt"
    OPENNEBULA = "opennebula"
    OVIRT = "ovirt"
    OTHER = "other"

    def __str__(self) -> str:
        return self.value


_BY_NAMESPACE = (
    (NOVA_NAMESPACE, Launcher.NOVA),
    ("http://ovirt.org/vm/", Launcher.OVIRT),
    ("http://opennebula.org/xmlns/libvirt/", Launcher.OPENNEBULA),
    ("http://kubevirt.io", Launcher.KUBEVIRT),
)

_never = re.compile(r"(?!)").fullmatch

_is_appliance = re.compile(r"guestfs-[0-9a-z]+").fullmatch


def by_namespaces(namespaces: Iterable[str], name: str = "") -> Launcher:
    """Return the launcher that the metadata names; a libguestfs appliance shows in its name."""
    known = tuple(namespaces)
    for prefix, launcher in _BY_NAMESPACE:
        if any(namespace.startswith(prefix) for namespace in known):
            return launcher
    return Launcher.LIBGUESTFS if _is_appliance(name) else Launcher.OTHER


class LaunchedBy(Protocol):
    """What "ours" means to a `Host`: two questions, the cheap one first.

    Any object with these two methods will do. Both must be pure: a verdict may be remembered or
    asked for twice, and threads ask at the same time.
    """

    def by_name(self, name: str) -> bool | None:
        """Return whether the domain is ours, by its name alone; None where the name cannot tell."""

    def by_metadata(self, namespaces: frozenset[str]) -> bool:
        """Return whether it is ours, by the namespace URIs of the elements in its `<metadata>`.

        Asked only where `by_name` returned None. Reading them costs one call per domain, once.
        """


class Anyone:
    """Every domain is ours, of any launcher; only Domain-0 still needs `include_dom0`."""

    def by_name(self, name: str) -> bool | None:  # noqa: ARG002  the protocol's
        """Return True."""
        return True

    def by_metadata(self, namespaces: frozenset[str]) -> bool:  # noqa: ARG002  the protocol's
        """Return True."""
        return True

    def __repr__(self) -> str:
        return "Anyone()"


class NovaLaunched:
    """The domains that OpenStack Nova launched on this host are ours.

    A name that `name_template` can make is Nova's; a name of libguestfs's shape is not. For any
    other name the metadata element decides that Nova has written since Juno (2014). So domains that
    are named by the template cost nothing to tell apart, however many there are.

    Args:
        name_template: Nova's `instance_name_template`, as in nova.conf.
        verify: trust the metadata only, for every domain. A domain that a person made under a name
            of Nova's shape is then foreign. Costs one call per domain, once. A domain that Nova
            launched before Juno carries no metadata, and is then foreign too.

    Raises:
        InvalidNameTemplate: Nova could not use the template, or it would give every guest the
            same name.
    """

    def __init__(self, name_template: str = "instance-%08x", verify: bool = False) -> None:
        self.name_template = name_template
        self.verify = verify
        self._template = NameTemplate(name_template)

    def by_name(self, name: str) -> bool | None:
        """Return True for the template's shape, False for an appliance's, None for others."""
        if self.verify:
            return None
        template = self._template
        if not template.fits(name):
            return False if _is_appliance(name) else None
        return True if template.decisive else None

    @property
    def is_surely_ours(self) -> Callable[[str], object]:
        """A function, written in C, that is true of each name for which `by_name` is True."""
        decides = self._template.decisive and not self.verify
        return self._template.fits if decides else _never

    def by_metadata(self, namespaces: frozenset[str]) -> bool:
        """Return whether Nova's element, of any version, is among them."""
        return any(namespace.startswith(NOVA_NAMESPACE) for namespace in namespaces)

    def __repr__(self) -> str:
        return f"NovaLaunched(name_template={self.name_template!r}, verify={self.verify!r})"


def recognise(name: str, nova: NovaLaunched) -> Launcher | None:
    """Return the launcher that a name alone tells; None where only the metadata can."""
    match nova.by_name(name):
        case True:
            return Launcher.NOVA
        case False:
            return Launcher.LIBGUESTFS
    return None


_LONGEST_NAME = 255
"""The most characters in a domain's name: libvirt names files after the domain."""


class NameTemplate:
    """Nova's `instance_name_template`: a printf template over an instance's id, or over its fields.

    Nova tries `template % instance.id` first and `template % fields` where that is a TypeError.
    """

    _CONVERSION = re.compile(
        r"%(?:\((?P<key>[^()]*)\))?(?P<flags>[-+ #0]*)(?P<width>\d*)(?P<precision>\.\d*)?[hlL]?"
        r"(?P<type>[diouxXeEfFgGcrsa%])",
        re.ASCII,
    )
    _UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

    def __init__(self, template: str) -> None:
        self._template = template
        self._conversions: list[str | None] = []  # the key of each, None for one without
        self.decisive = True
        """Whether only the template makes such names: it uses id and uuid alone, no free text."""
        self.fits = re.compile(self._pattern(), re.DOTALL).fullmatch
        """Tells whether the template can have made a name."""

    def _pattern(self) -> str:
        template = self._template
        if not isinstance(template, str):
            raise self._invalid("it is not a string")
        pattern, end = "", 0
        for conversion in self._CONVERSION.finditer(template):
            pattern += self._literal(template[end : conversion.start()])
            pattern += self._shape(conversion)
            end = conversion.end()
        pattern += self._literal(template[end:])
        if not self._conversions:
            raise self._invalid("it would give every guest the same name")
        if None in self._conversions and len(self._conversions) > 1:
            raise self._invalid("Nova fills one %-conversion with the id, or any number by %(key)s")
        return pattern

    def _literal(self, text: str) -> str:
        if "%" in text:
            raise self._invalid(f"{short(text[text.index('%') :])!r} is no printf conversion")
        return re.escape(text)

    def _shape(self, conversion: re.Match[str]) -> str:
        key, flags, width, precision, kind = conversion.group(
            "key", "flags", "width", "precision", "type"
        )
        if kind == "%":
            return "%"
        self._conversions.append(key)
        if len(width) > len(str(_LONGEST_NAME)) or int(width or 0) > _LONGEST_NAME:
            raise self._invalid(f"no domain has a name of {short(width)} characters")
        if key == "uuid" and kind not in "sra":
            raise self._invalid(
                f"{short(conversion.group())!r} asks for a number and a uuid is text"
            )
        plain = not precision and flags in ("", "0") and (flags == "0") == bool(width)
        if plain and key == "uuid" and kind == "s" and not width:
            return self._UUID
        if plain and key in (None, "id") and kind in "diusxXo" and not (kind == "s" and width):
            digit, first = _DIGITS[kind]
            n = int(width or 1)
            return f"(?:{digit}{{{n}}}|{first}{digit}{{{n},}})"
        self.decisive = False
        return ".*"

    def _invalid(self, why: str) -> InvalidNameTemplate:
        return InvalidNameTemplate(
            f"instance_name_template {short(repr(self._template))} cannot be used: {why}; "
            "give the one in nova.conf, for example 'instance-%08x' or 'vm-%(uuid)s'"
        )


_DIGITS = {
    "d": ("[0-9]", "[1-9]"),
    "i": ("[0-9]", "[1-9]"),
    "u": ("[0-9]", "[1-9]"),
    "s": ("[0-9]", "[1-9]"),
    "o": ("[0-7]", "[1-7]"),
    "x": ("[0-9a-f]", "[1-9a-f]"),
    "X": ("[0-9A-F]", "[1-9A-F]"),
}
"""The digits of each conversion of a number: any digit, and the first one without padding."""

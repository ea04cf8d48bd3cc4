"""A share of Nova's own tests of its libvirt driver, with guestlist's classes swapped in.

In: which share of how many; Nova's concurrency mode is in the environment. Out: a line of JSON for
each step of a test, [test, outcome, detail], to a file; the last of a test counts. Judges nothing:
`run.py` does. Runs with the Python of a Nova environment, where nothing is ours but guestlist.

Not by pytest: it cannot run testtools' tests, and pytest-xdist hangs once eventlet has patched it.

Source: nova/tests/unit/__init__.py, .stestr.conf and tox.ini (how Nova runs them itself).
"""

import argparse
import fnmatch
import importlib
import json
import pkgutil
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path

import libvirt

TESTS = "nova.tests."
UNIT = ("test_host", "test_guest", "volume.test_mount", "test_driver")
SWAPPED = {"driver": ("LibvirtDriver", "LibvirtDriver"), "host": ("Host", "NovaHost")}


def modules_of(suite: str) -> list[str]:
    if suite == "unit":
        return [f"{TESTS}unit.virt.libvirt.{name}" for name in UNIT]
    package = importlib.import_module(f"{TESTS}functional.libvirt")
    return [
        f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)
    ]


def find_what_the_wheel_has() -> None:
    """The API's configuration, which Nova looks for where a checkout has it."""
    (option,) = (
        one
        for one in importlib.import_module("nova.conf.paths").ALL_OPTS
        if one.name == "pybasedir"
    )
    option.default = sys.prefix


def let_readers_pass_writers() -> None:
    """Keep Nova's database fixture from deadlocking a test that runs a periodic task.

    The task holds the fixture's read lock while it waits for a pool's thread, which takes the read
    lock, too (2026.2). If a third thread asks for the write lock in between, that waits for the
    task, the pool's thread for the writer, and the task for the pool's thread. Any pause there is
    enough, with Nova's own classes as well: guestlist's call to libvirt is one. So readers do not
    wait for a writer that waits itself.
    """
    fixtures = importlib.import_module("nova.tests.fixtures.nova")
    fixtures.ReaderWriterLock.has_pending_writers = False


def have_no_libvirt() -> None:
    """Nova's tests have a libvirt of their own, and shall not be told of this machine's."""

    def refuse(uri: str | None = None) -> None:
        raise libvirt.libvirtError(f"Nova's tests shall not see {uri}")

    libvirt.open = libvirt.openReadOnly = refuse


def swap_in() -> None:
    """Put guestlist's classes where Nova, and so its tests, look for Nova's."""
    importlib.import_module("guestlist.nova.proof").proven()  # on Nova's code, before it is patched
    package = importlib.import_module("nova.virt.libvirt")
    for name, (swapped, by) in SWAPPED.items():
        ours = getattr(importlib.import_module(f"guestlist.nova.{name}"), by)
        module = importlib.import_module(f"nova.virt.libvirt.{name}")
        copy_functions(getattr(module, swapped), ours)
        keep_own_name(module, swapped)
        for place in (module, package):
            if hasattr(place, swapped):
                setattr(place, swapped, ours)


def keep_own_name(module, name: str) -> None:
    """Have a class mean itself where its `__init__` says `super(Name, self)`, as up to 2025.2.

    The name is looked up in the module, finds the subclass there, and goes round for ever.
    """
    original = getattr(module, name)
    own = f"_original_{name}"
    setattr(module, own, original)
    code = original.__init__.__code__
    names = tuple(own if used == name else used for used in code.co_names)
    original.__init__.__code__ = code.replace(co_names=names)


def copy_functions(novas: type, ours: type) -> None:
    """Have a class's inherited static and class methods in itself.

    The tests patch them, and fixtures does not see of an inherited one that it takes no self.
    """
    for name, value in vars(novas).items():
        if isinstance(value, staticmethod | classmethod) and name not in vars(ours):
            setattr(ours, name, value)


def each(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from each(test)
        else:
            yield test


def is_chosen(name: str, patterns: list[str]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(name, f"*{pattern}*") for pattern in patterns)


class Lines(unittest.TestResult):
    """Writes each outcome at once, so that a test that takes the process down is known."""

    def __init__(self, file) -> None:
        super().__init__()
        self._file = file

    def _write(self, test, outcome: str, detail: str = "") -> None:
        print(json.dumps([test.id(), outcome, detail]), file=self._file, flush=True)

    def startTest(self, test) -> None:
        self._write(test, "unfinished")

    def addSuccess(self, test, details=None) -> None:
        self._write(test, "passed")

    def addSkip(self, test, reason=None, details=None) -> None:
        self._write(test, "skipped", reason or "")

    def addFailure(self, test, err=None, details=None) -> None:
        self._write(test, "failed", tracebacks(details) or self._exc_info_to_string(err, test))

    addError = addFailure

    def addExpectedFailure(self, test, err=None, details=None) -> None:
        self._write(test, "passed")

    def addUnexpectedSuccess(self, test, details=None) -> None:
        self._write(test, "failed", "passes, which Nova does not expect")


def tracebacks(details) -> str:
    """What testtools has gathered of a test, but for the log."""
    return "\n".join(
        content.as_text() for name, content in (details or {}).items() if "traceback" in name
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=int, required=True)
    parser.add_argument("--shares", type=int, required=True)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--suite", choices=["unit", "functional"], required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--leave-out", action="append", default=[])
    parser.add_argument("-k", action="append", default=[])
    options = parser.parse_args()

    # The first patches, or forbids eventlet, before all other imports; of old the second does.
    importlib.import_module(TESTS + options.suite)
    importlib.import_module("nova.test")

    if options.suite == "functional":
        find_what_the_wheel_has()
        let_readers_pass_writers()
    have_no_libvirt()
    if not options.plain:
        swap_in()
    suite = unittest.defaultTestLoader.loadTestsFromNames(modules_of(options.suite))
    left_out = {TESTS + name for name in options.leave_out}
    chosen = [
        test
        for test in each(suite)
        if is_chosen(test.id(), options.k) and test.id() not in left_out
    ]
    chosen.sort(key=lambda test: test.id())
    with options.out.open("w") as file:
        result = Lines(file)
        for test in chosen[options.share :: options.shares]:
            test.run(result)


if __name__ == "__main__":
    main()

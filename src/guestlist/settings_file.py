"""A file of settings: strict YAML, and read again when it has changed.

In: the path of a file, and the function that makes a value of it. Out: the value of the file as it
is now, or one line that says what is wrong with it. The file is read again when it, or a file that
it names, has changed; to find that out costs one stat for each of these files. While a file cannot
be used there is no value: the last good one is not kept.

A change is seen by device, inode, size and time of change, so also if another file is moved to the
path, as Kubernetes does. The time of change stands still for some milliseconds, so a file that has
just changed is read again the next time as well.

Source: PyYAML's constructor (SafeLoader takes a key that is there twice; here it is an error).
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Callable, Hashable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from guestlist.errors import one_line
from guestlist.unpatched import threading, time

log = logging.getLogger(__name__)

T = TypeVar("T")

_LARGEST = 1_000_000
"""Bytes of a file of settings, of a certificate or of a key."""

_CLOCK_STEP = 0.05
"""Seconds: two changes of a file that are closer may have the same time of change."""


class BadSettings(Exception):
    """A file of settings cannot be used. The message is one line and has no secret in it."""


class Files:
    """The files that one reading opens, and what each looked like before it was read."""

    def __init__(self) -> None:
        self._seen: dict[Path, Hashable] = {}
        self._read_at = time.time()
        self._newest = 0.0

    def read(self, path: Path, what: str, *, private: bool = False) -> bytes:
        """Return the content of a file.

        Args:
            path: the file.
            what: what the file is, for the message.
            private: whether to refuse a file that every user of the machine can read.

        Raises:
            BadSettings: the file cannot be read, is no regular file or too large, or all users can
                read it.
        """
        self._seen[path] = _looks(path)
        try:
            with _opened(path) as descriptor:
                found = os.fstat(descriptor)
                self._newest = max(self._newest, found.st_ctime)
                if not stat.S_ISREG(found.st_mode):
                    raise BadSettings(f"cannot read {what} {path}: it is no regular file")
                if found.st_size > _LARGEST:
                    raise BadSettings(
                        f"cannot read {what} {path}: it has more than {_LARGEST:,} bytes"
                    )
                if private and found.st_mode & stat.S_IROTH:
                    raise BadSettings(f"every user can read {what} {path}; run: chmod o-rwx {path}")
                with os.fdopen(descriptor, "rb", closefd=False) as file:
                    return file.read(_LARGEST)
        except OSError as error:
            raise BadSettings(f"cannot read {what} {path}: {error.strerror}") from error

    def have_changed(self) -> bool:
        """Return whether a file is not what it was, or changed so late that this cannot be told."""
        if self._read_at - self._newest < _CLOCK_STEP:
            return True
        return any(_looks(path) != before for path, before in self._seen.items())


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a file for reading. A FIFO keeps no reader waiting here."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class SettingsFile(Generic[T]):
    """What a file says now. Threads may share it.

    Args:
        path: the file.
        read: makes the value; it opens each file through the `Files` that it gets.
    """

    def __init__(self, path: Path, read: Callable[[Path, Files], T]) -> None:
        self.path = path
        self._read = read
        self._files: Files | None = None
        self._value: T | None = None
        self._problem: str | None = None
        self._lock = threading.Lock()

    def now(self) -> T:
        """Return the value of the file as it is now.

        Raises:
            BadSettings: the file cannot be used, as it is now. The log says so once.
        """
        with self._lock:
            if self._files is None or self._files.have_changed():
                self._read_again()
            if self._problem is not None:
                raise BadSettings(self._problem)
            return self._value  # type: ignore[return-value]

    def _read_again(self) -> None:
        is_first, self._files = self._files is None, Files()
        before, self._problem = self._problem, None
        try:
            self._value = self._read(self.path, self._files)
        except BadSettings as error:
            self._value, self._problem = None, str(error)
            if not is_first and before != self._problem:
                log.error("%s", self._problem)  # noqa: TRY400  one line
        else:
            if before is not None:
                log.info("%s can be used again", self.path)


def parse_yaml(text: bytes, path: Path, *, like: str = "") -> dict[str, Any]:
    """Return the mapping of a YAML document; an empty document is an empty mapping.

    `like` is a line as the document has it, for the message about one that is no mapping.

    Raises:
        BadSettings: the text is no YAML, no mapping of texts, or has a key twice.
    """
    import yaml  # noqa: PLC0415  not for a command without such a file

    try:
        found = yaml.load(text, _strict_loader())
    except yaml.MarkedYAMLError as error:  # its text quotes the line, which may hold a key
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise BadSettings(f"{path}{line}: {one_line(error.problem)}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise BadSettings(f"{path} is no YAML text in UTF-8") from None
    if like and found is not None and not isinstance(found, dict):
        raise BadSettings(f"{path} has no keys with values, as in {like}")
    return mapping(found, str(path))


def mapping(value: object, where: str) -> dict[str, Any]:
    """Return a mapping whose keys are texts; None is an empty one.

    Raises:
        BadSettings: the value is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadSettings(f"{where} has no keys with values")
    for key in value:
        if not isinstance(key, str):
            raise BadSettings(f"{where}: the key {key!r} is no text; put it between quotes")
    return value


@cache
def _strict_loader() -> Any:
    import yaml  # noqa: PLC0415  as above

    class Strict(yaml.SafeLoader):
        """PyYAML's safe loader that refuses a key which is there twice."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            """Return the mapping of a node."""
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if "<<" in keys:  # merges of merges take time without end
                raise yaml.constructor.ConstructorError(
                    None, None, "'<<' is not accepted", node.start_mark
                )
            seen = set()
            for key in keys:
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} is there twice", node.start_mark
                    )
                seen.add(key)
            return super().construct_mapping(node, deep)

    return Strict


def _looks(path: Path) -> Hashable:
    """Return what a file looks like from outside; None: there is none that can be read."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns

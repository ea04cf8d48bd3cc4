"""Which process publishes a host, as the key on its lease says; and whether that process lives.

In: this machine's identity, /proc. Out: an `Owner` that is written into the store, and compared
with what is there. The lease of an agent that was killed lives on for a while. Its successor on the
same machine need not wait: it sees that the process is gone. On another machine it cannot see that.
Nor where /proc hides the processes of other users (`hidepid`, systemd's `ProtectProc`): a process
that is not seen there and takes signals, or refuses them, lives.

The identity of the machine is published as a digest: systemd calls the machine id confidential.

Source: proc(5), /proc/PID/stat: state (3) and starttime (22); machine-id(5).
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import guestlist
from guestlist.fleet import layout, values

if TYPE_CHECKING:
    from guestlist.fleet.etcd.kv import KeyValue

_MACHINE_ID = "/etc/machine-id"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_ENDED = ("Z", "X")
"""States of a process that has ended."""


class Owner(NamedTuple):
    """A process: its machine and boot, its namespace of process ids, its id and its start time.

    `token` tells two agents in one process apart.
    """

    machine: str
    namespace: str
    pid: int
    started: str
    token: str

    @classmethod
    def of_this_process(cls) -> Owner:
        """Return the owner that this process is; each call returns another one."""
        identity = _read(_MACHINE_ID) + "\0" + _read(_BOOT_ID)
        machine = hashlib.sha256(identity.encode()).hexdigest()[:32]
        pid = os.getpid()
        return cls(machine, _namespace(), pid, _started(pid) or "", secrets.token_hex(8))

    def encode(self) -> bytes:
        """Return the value of a live key."""
        incarnation = ":".join((self.namespace, str(self.pid), self.started, self.token))
        agent = f"guestlist {guestlist.__version__}"
        return values.record_value(values.LiveRecord(self.machine, incarnation, agent))

    @classmethod
    def of_row(cls, row: KeyValue) -> Owner | None:
        """Return the owner that a live key names; None: this version cannot read its value."""
        found = layout.live_record(row)
        if isinstance(found, layout.BadRow):
            return None
        match found.incarnation.split(":"):
            case [namespace, pid, started, token] if pid.isdecimal():
                return cls(found.machine, namespace, int(pid), started, token)
        return None

    def can_see(self, other: Owner) -> bool:
        """Return whether this process can tell if that other one lives."""
        here = self.machine, self.namespace
        return bool(self.namespace) and here == (other.machine, other.namespace)

    def has_outlived(self, other: Owner) -> bool:
        """Return whether that other process has ended, as far as this one can tell."""
        return self.can_see(other) and not _lives(other.pid, other.started)

    def may_replace(self, other: Owner | None) -> bool:
        """Return whether this process may delete the other's key: it is its own, or has ended."""
        return other is not None and (other == self or self.has_outlived(other))

    def describe(self, other: Owner | None) -> str:
        """Return where another process runs, in words."""
        if other is None:
            return "an owner that this version cannot read"
        if self.can_see(other):
            return f"process {other.pid} on this machine"
        if self.machine == other.machine:
            return "in another container on this machine"
        return "on another machine"


def _lives(pid: int, started: str) -> bool:
    """Return whether a process that started then lives, as far as this one can tell."""
    if _read(f"/proc/{pid}/stat"):
        return _started(pid) == started
    try:
        os.kill(pid, 0)  # no signal: a question
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _started(pid: int) -> str | None:
    """Return when a process started, in ticks since the boot; None: there is no such process."""
    stat = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return None if len(stat) < 20 or stat[0] in _ENDED else stat[19]


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""

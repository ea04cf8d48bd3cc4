"""A libvirtd of the system (qemu:///system), with a network and file systems of its own.

In: root, libvirtd, QEMU and tap devices. Out: a URI, programs that run beside the daemon, and the
network devices that they make. It lives in namespaces of its own (mounts, network, processes), so
it touches neither the libvirt nor the network of this machine, and all its processes end with it:
at the end of the block, or with the process that started it.

Refuses to run without root: `system_available` says what is missing.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from lab.daemon import READY_SECONDS, libvirtd
from lab.qemu import qemu_available
from lab.quick import refuse_if_quick

# $1: the directory; $2: libvirtd; $3: whether the network is its own. The first process of its
# namespace: all others end with it.
_START = """
set -e
umask 022
cd "$1"
if [ "$3" = True ]; then
    ip link set lo up
    mount -t sysfs none /sys
fi
for place in /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /etc/libvirt
do mkdir -p "$place"; mount -t tmpfs none "$place"
done
for file in passwd group; do cp "/etc/$file" .; done
id libvirt-qemu >/dev/null 2>&1 || {
    echo 'libvirt-qemu:x:64055:64055::/:/bin/false' >>passwd
    echo 'libvirt-qemu:x:64055:' >>group
}
getent group kvm >/dev/null || echo 'kvm:x:64056:' >>group
for file in passwd group; do mount --bind "$file" "/etc/$file"; done
cp qemu.conf /etc/libvirt/
"$2" -f "$1/libvirtd.conf" -p "$1/pid" >output 2>&1 </dev/null &
cat >/dev/null
rm -rf "$1"
"""

NAMESPACES = "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"

QEMU_CONF = """\
user = "root"
group = "root"
stdio_handler = "file"
security_driver = "none"
seccomp_sandbox = 0
cgroup_controllers = []
namespaces = []
remember_owner = 0
max_core = 0
"""


def namespaces_available() -> str | None:
    """Return why there are no namespaces here in which a daemon of the system can live."""
    if os.geteuid() != 0:
        return "only root has namespaces"
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if not Path("/dev/net/tun").exists():
        return "no tap devices"
    if subprocess.run(
        ["unshare", *NAMESPACES, "true"], capture_output=True, check=False
    ).returncode:
        return "this machine makes no namespaces"
    return None if libvirtd() else "libvirtd is not installed"


def system_available() -> str | None:
    """Return why no daemon of the system can be started here; None if one can."""
    return namespaces_available() or qemu_available()


class SystemDaemon:
    """A running libvirtd of the system; a context manager.

    `network`: it has a network of its own, otherwise that of the process that starts it.

    Raises:
        RuntimeError: it did not listen within `READY_SECONDS`; the message has what it printed.
    """

    def __init__(self, *, network: bool = True) -> None:
        self._network = network
        self._namespaces = [each for each in NAMESPACES if network or each != "--net"]

    def __enter__(self) -> Self:
        refuse_if_quick("a daemon")
        self._directory = Path(tempfile.mkdtemp(prefix="gl-system-", dir="/tmp"))
        (self._directory / "qemu.conf").write_text(QEMU_CONF)
        (self._directory / "libvirtd.conf").write_text(
            f'unix_sock_dir = "{self._directory}"\nauth_unix_ro = "none"\nauth_unix_rw = "none"\n'
        )
        self._unshare = subprocess.Popen(
            [
                "unshare",
                *self._namespaces,
                "sh",
                "-c",
                _START,
                "sh",
                str(self._directory),
                str(libvirtd()),
                str(self._network),
            ],
            stdin=subprocess.PIPE,
        )
        try:
            self._await_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._unshare.kill()
        self._unshare.communicate()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def socket(self) -> str:
        """The path of its socket."""
        return str(self._directory / "libvirt-sock")

    @property
    def uri(self) -> str:
        """The URI of its QEMU driver."""
        return f"qemu+unix:///system?socket={self.socket}"

    def run(self, *command: str) -> str:
        """Run a program beside the daemon, in its namespaces; return what it prints."""
        unshare = self._unshare.pid
        first = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().strip()
        there = ["nsenter", "--target", first, "--mount", "--net"]
        return subprocess.run(
            [*there, *command], check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def python(self, script: str, *words: str) -> str:
        """Run a script beside the daemon; return what it prints."""
        return self.run(sys.executable, "-c", script, *words)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self._unshare.poll() is None:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(self.socket) == 0:
                    return
            time.sleep(0.01)
        output = self._directory / "output"
        said = output.read_text(errors="replace") if output.exists() else ""
        raise RuntimeError(f"libvirtd does not listen on {self.socket}:\n{said}")

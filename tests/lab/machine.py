"""A host as an operator has it: libvirt at its usual place, users and groups, polkit, an sshd.

In: root, libvirtd, QEMU, polkit, D-Bus, and Debian packages that `./dev` has unpacked, for their
settings and programs: libvirt-daemon-system, openssh-server and libwrap0. Out: a shell of root, and
one of an ordinary user, on that host. It lives in namespaces of its own (mounts, network,
processes). There /etc is a copy, and /run, /home, /root and what libvirt keeps are new: users, keys
and settings that are made there touch nothing else. All ends with the block, or with the process
that started it.

The host's name is node1, and also node7; no network leads out. It runs `GUESTS` and has `OTHER`.
The user is `monitor`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from lab.command import PACKAGE
from lab.daemon import READY_SECONDS, libvirtd
from lab.nodes import Domain, nova_instance
from lab.qemu import guest_xml, qemu_available
from lab.quick import refuse_if_quick
from lab.system import NAMESPACES, QEMU_CONF, namespaces_available

USER = "monitor"
GUESTS = (nova_instance(1), nova_instance(2))
OTHER = Domain("web-1", nova_instance(3).uuid, active=False)

_DEBIAN = Path(__file__).parents[2] / ".cache" / "debian"
_LIBVIRT = _DEBIAN / "libvirt-daemon-system"
_SSHD = _DEBIAN / "openssh-server" / "usr" / "sbin" / "sshd"
_WRAP = _DEBIAN / "libwrap0"
_POLKITD = ("/usr/lib/polkit-1/polkitd", "/usr/libexec/polkitd")

# $1: the directory; $2: the unpacked package of libvirt; then folders that stay if they are below
# /root. Ends when its input does.
_START = """
set -e
umask 022
cd "$1"
ip link set lo up
mount -t sysfs none /sys
for place in /run /home /var/lib/libvirt /var/cache/libvirt /var/log/libvirt
do mkdir -p "$place"; mount -t tmpfs none "$place"
done
cp -a /etc etc; cp -a "$2/etc/libvirt" etc/; mount --bind etc /etc
cp -a /usr/share/polkit-1 polkit; cp -a "$2/usr/share/polkit-1/." polkit
mount --bind polkit /usr/share/polkit-1
cp qemu.conf /etc/libvirt/
echo '127.0.0.1 localhost node1 node7' >/etc/hosts
for group in libvirt libvirt-qemu kvm
do getent group "$group" >/dev/null || groupadd --system "$group"
done
getent passwd libvirt-qemu >/dev/null || useradd --system --gid libvirt-qemu libvirt-qemu
getent passwd sshd >/dev/null || useradd --system --home-dir /run/sshd sshd
useradd --create-home --shell /bin/bash monitor
echo 'monitor:secret' | chpasswd
printf '#!/bin/sh\necho secret\n' >bin/askpass; chmod 755 bin/askpass
shift 2
keep() { # PATH...: bind each path below /root to a place of ours, or back
    for path; do
        case $path in /root/*)
            place=$PWD/kept$path
            mkdir -p "$place" "$path"
            if $back; then mount --bind "$place" "$path"; else mount --bind "$path" "$place"; fi
        esac
    done
}
back=false; keep "$@"
mount -t tmpfs -o mode=755 none /root
back=true; keep "$@"
mkdir -p /run/dbus /run/sshd
dbus-daemon --system --nopidfile >dbus 2>&1 &
cat >/dev/null
"""


# What the operators' pages use of systemctl.
_SYSTEMCTL = """\
#!/bin/sh
set -eu
stop() {
    pid=$(cat /run/lab-$1.pid 2>/dev/null) || return 0
    kill "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
    rm -f /run/lab-$1.pid
}
start() { # NAME READY PROGRAM...
    name=$1 ready=$2
    shift 2
    setsid "$@" >>/run/$name.log 2>&1 </dev/null &
    echo $! >/run/lab-$name.pid
    tries=0
    until sh -c "$ready" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 1000 ] || { cat /run/$name.log; exit 1; }
        sleep 0.02
    done
}
action=$1
shift
for unit; do
    case $action:$unit in
    *:libvirtd-tls.socket) touch /run/libvirtd.listens ;;
    stop:*) stop "$unit" ;;
    *:polkit)
        stop polkit
        start polkit 'pkaction --action-id org.libvirt.unix.monitor' {polkitd} --no-debug ;;
    *:libvirtd)
        stop libvirtd
        listen=
        [ ! -e /run/libvirtd.listens ] || listen=--listen
        start libvirtd 'virsh -q -c qemu:///system uri' {libvirtd} $listen ;;
    *:ssh)
        start ssh 'ssh-keyscan node7 2>/dev/null | grep -q ssh-' \
            env LD_LIBRARY_PATH={libraries} {sshd} -D -e -f /dev/null -o ListenAddress=127.0.0.1 \
            -o UsePAM=no ;;
    esac
done
"""


def machine_available() -> str | None:
    """Return why there is no such host here; None if there can be one."""
    for program in ("dbus-daemon", "runuser", "useradd", "ssh", "ssh-keygen", "openssl"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if _polkitd() is None:
        return "polkitd is not installed"
    for place in (_LIBVIRT, _SSHD):
        if not place.exists():
            return f"./dev test has not unpacked {place.relative_to(_DEBIAN).parts[0]}"
    return namespaces_available() or qemu_available()


def _polkitd() -> str | None:
    return next((path for path in _POLKITD if Path(path).exists()), None)


def _systemctl() -> str:
    libraries = ":".join(str(path.parent) for path in _WRAP.rglob("libwrap.so.0"))
    paths = {"polkitd": _polkitd(), "libvirtd": libvirtd(), "sshd": _SSHD, "libraries": libraries}
    text = _SYSTEMCTL
    for name, path in paths.items():
        text = text.replace(f"{{{name}}}", str(path))
    return text


class Machine:
    """A running host; a context manager."""

    def __enter__(self) -> Self:
        refuse_if_quick("a daemon")
        self._directory = Path(tempfile.mkdtemp(prefix="gl-machine-", dir="/tmp"))
        self._directory.chmod(0o755)
        (self._directory / "qemu.conf").write_text(QEMU_CONF)
        (self._directory / "bin").mkdir()
        systemctl = self._directory / "bin" / "systemctl"
        systemctl.write_text(_systemctl())
        systemctl.chmod(0o755)
        words = ["unshare", *NAMESPACES, "sh", "-c", _START, "sh", str(self._directory)]
        needed = {sys.base_prefix, sys.prefix, str(PACKAGE)}
        self._unshare = subprocess.Popen([*words, str(_LIBVIRT), *needed], stdin=subprocess.PIPE)
        try:
            self._await_bus()
            self.root("ssh-keygen -A; systemctl start polkit libvirtd ssh")
            for guest in (*GUESTS, OTHER):
                self.root("virsh define /dev/stdin", guest_xml(guest))
            for guest in GUESTS:
                self.root(f"virsh start --paused {guest.name}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._unshare.kill()
        self._unshare.communicate()
        shutil.rmtree(self._directory, ignore_errors=True)

    def root(self, script: str, text: str = "") -> str:
        """Run a script as root; return what it prints. It must succeed."""
        ended = self._run(["sh", "-eu", "-c", script], text)
        assert ended.returncode == 0, f"{script}\n{ended.stdout}"
        return ended.stdout

    def user(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a new login shell of the user; standard error is in its output."""
        return self._run(["runuser", "--login", USER, "--command", f"{self._prelude}; {command}"])

    @property
    def _prelude(self) -> str:
        """What a shell needs: the `guestlist` under test, and a password where ssh asks."""
        programs = Path(sys.executable).parent
        types = f"SSH_ASKPASS={self._directory}/bin/askpass SSH_ASKPASS_REQUIRE=force"
        house = f"PYTHONPATH={PACKAGE} PYTHONDONTWRITEBYTECODE=1"
        return f"export PATH={programs}:$PATH {house} {types}"

    def _run(self, command: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
        unshare = self._unshare.pid
        children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
        there = ["nsenter", "--target", children[0], "--mount", "--net", "--pid"]
        return subprocess.run(
            [*there, *command],
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                "PATH": f"{self._directory}/bin:{os.environ['PATH']}:/usr/sbin:/sbin",
                "HOME": "/root",
                "LC_ALL": "C.UTF-8",
            },
            check=False,
        )

    def _await_bus(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self._unshare.poll() is None:
            with contextlib.suppress(FileNotFoundError, IndexError):  # its first process
                if self._run(["test", "-S", "/run/dbus/system_bus_socket"]).returncode == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError("the host did not become ready")

"""`./dev newcomer`: follow the tutorial on a Debian that has only Python, from a wheel or packages.

In: mmdebstrap, root, and a wheel, or guestlist's Debian packages. Out: exit status 0 if every
command of docs/tutorial.md did what the page says: with a wheel also those that install it; with
Debian packages these are installed in its place. The Debian is a folder; its processes and mounts
are in namespaces of their own, and end with this process. The checkout is not visible there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lab import transcript

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
USER, ID = "newcomer", 1000
NAMESPACES = "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"

_WAY_TO_PACKAGES = "PIP_INDEX_URL", "PIP_CERT", "PIP_DEFAULT_TIMEOUT", "https_proxy", "http_proxy"
"""Variables of this machine that a newcomer has set as well."""

_AGAIN = "--in-namespaces"


def main() -> int:
    """Follow the page and return the exit status."""
    options = _options()
    if not options.in_namespaces:
        again = [sys.executable, *sys.argv, _AGAIN]
        return subprocess.run(["unshare", *NAMESPACES, *again], check=False).returncode
    with tempfile.TemporaryDirectory(prefix="gl-newcomer-") as folder:
        debian = Path(folder) / "debian"
        if options.debian:
            debian = options.debian
        else:
            make(debian, options.release)
        transcript.DEADLINE = options.deadline
        began = time.monotonic()
        furnish(debian, options.packages)
        try:
            by_page = options.packages[0].suffix != ".deb"
            if not by_page:
                install(debian, options.packages)
            typed = transcript.follow(
                PAGE.read_text(), reader(debian), root=root(debian) if by_page else None
            )
        except transcript.Differs as differs:
            print(f"newcomer: {PAGE.name}: {differs}", file=sys.stderr)
            return 1
        finally:
            leave(debian)
    minutes = (time.monotonic() - began) / 60
    print(f"newcomer: {typed} commands did what {PAGE.name} says, in {minutes:.1f} minutes")
    return 0


def make(debian: Path, release: str) -> None:
    """Make a Debian of this release that has only Python."""
    packages = "--include=python3,ca-certificates"
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", packages, release, debian], check=True
    )


def furnish(debian: Path, packages: list[Path]) -> None:
    """Give the Debian a user, packages in their folder, and this machine's way to others."""
    if not (debian / "home" / USER).exists():
        command = ["chroot", debian, "useradd", "--create-home", "--uid", str(ID), USER]
        subprocess.run(command, check=True)
    for package in packages:
        shutil.copy(package, debian / "home" / USER)
    (debian / "etc/apt/apt.conf.d/90yes").write_text('APT::Get::Assume-Yes "true";\n')
    for name in ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"):
        if (Path("/") / name).exists():
            shutil.copy(Path("/") / name, debian / name)
    for place in ("dev", "proc"):
        subprocess.run(["mount", "--rbind", f"/{place}", debian / place], check=True)


def install(debian: Path, packages: list[Path]) -> None:
    """Install Debian packages, and what the page uses of Debian besides guestlist."""
    names = [f"/home/{USER}/{package.name}" for package in packages]
    for words in (["update"], ["install", *names, "libvirt-daemon", "libvirt-clients"]):
        shell = root(debian)
        command = [*shell.inside, "apt-get", "--quiet=2", *words]
        subprocess.run(command, check=True, env=shell.environment, stdout=subprocess.DEVNULL)
    activate = debian / "home" / USER / "guestlist-env" / "bin" / "activate"
    activate.parent.mkdir(parents=True, exist_ok=True)
    activate.write_text("alias python=python3\n")  # no environment: the package is on the PATH


def leave(debian: Path) -> None:
    """Take the mounts back, so that the folder can be removed and no device with it."""
    for place in ("proc", "dev"):
        subprocess.run(["umount", "--recursive", "--lazy", debian / place], check=True)


def reader(debian: Path) -> transcript.Shell:
    """Return the shell of the user."""
    home = debian / "home" / USER
    return transcript.Shell(home, _environment(home.name), _inside(debian, f"/home/{USER}", ID))


def root(debian: Path) -> transcript.Shell:
    """Return the shell of root."""
    return transcript.Shell(debian / "root", _environment("root"), _inside(debian, "/root", 0))


def _inside(debian: Path, home: str, user: int) -> list[str]:
    return ["chroot", f"--userspec={user}:{user}", str(debian), "env", f"--chdir={home}"]


def _environment(user: str) -> dict[str, str]:
    pip = {name: os.environ[name] for name in _WAY_TO_PACKAGES if name in os.environ}
    home = "/root" if user == "root" else f"/home/{user}"
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    return {"HOME": home, "USER": user, "PATH": path, "LANG": "C.UTF-8", **pip, **quiet}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev newcomer", description="Follow docs/tutorial.md on a bare Debian, as root."
    )
    parser.add_argument("packages", type=Path, nargs="+", help="a wheel, or Debian packages")
    parser.add_argument("--release", default="bookworm", help="of Debian (bookworm)")
    parser.add_argument("--debian", type=Path, help="a folder with a Debian, in place of a new one")
    parser.add_argument("--deadline", type=float, default=600.0, help="seconds for a line (600)")
    parser.add_argument(_AGAIN, action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

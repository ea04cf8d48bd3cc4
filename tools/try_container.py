"""Run a Containerfile's steps in chroots: `./dev container`, where no container engine is at hand.

In: packaging/container/Containerfile, and root. Out: an exit status; what each step prints goes to
standard error. Each stage begins as Debian's minimal system, which mmdebstrap makes once and keeps
in .cache. At the end the entry point runs as the user of the image, over libvirt's test driver.

It knows the instructions that the file has, and refuses every other one: this shows that the steps
work, and is no builder of images. The steps see the machine's settings of pip and its certificates,
because a mirror may be the only way out.

Source: Dockerfile reference (https://docs.docker.com/reference/dockerfile/); mmdebstrap(1).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CONTAINERFILE = ROOT / "packaging" / "container" / "Containerfile"
PLACE = ROOT / ".cache" / "container"

RELEASES = {"docker.io/library/debian:12-slim": "bookworm"}
"""The images that a stage may begin with, and Debian's name of what is in them."""

_SETTINGS = (
    "/etc/resolv.conf",
    "/etc/pip.conf",
    "/etc/xdg/pip/pip.conf",
    "/etc/xdg/pip/constraints.txt",
)
"""What a step needs of the machine to reach mirrors; it is not part of an image."""

AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_COPY_OF_THEM = "/etc/ssl/of-the-machine.crt"
"""Where a step finds the machine's authorities: its own packages write their file again."""

TRIALS = (
    ["--version"],
    ["ls", "--all", "--foreign", "-c", "test:///default", "-f", "json"],
    ["check", "-c", "test:///default"],
    ["exporter", "--print", "-c", "test:///default"],
    ["agent", "--help"],
    ["fleet", "--help"],
)
"""Arguments with which the entry point runs in the end; each must succeed."""


class Step(NamedTuple):
    """One instruction, its continued lines joined."""

    instruction: str
    text: str


class NotKnown(ValueError):
    """An instruction, or a form of one, that this script does not play."""


@dataclass(slots=True)
class Stage:
    """A stage while its steps run: a root directory, and what the steps have set."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    entry_point: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def steps(text: str) -> list[Step]:
    """Return the instructions of a Containerfile."""
    lines = [line for line in text.splitlines() if not re.match(r"\s*#", line)]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [Step(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def play(all_steps: list[Step], place: Path) -> Stage:
    """Run the steps; return the last stage, which is the image.

    Raises:
        NotKnown: an instruction is not played here.
        subprocess.CalledProcessError: a step failed.
    """
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for instruction, text in all_steps:
        print(f"container: {instruction} {text}", file=sys.stderr)
        if instruction == "FROM":
            image, _, name = text.partition(" AS ")
            stage = Stage(_base(image, place, name or "image"))
            stages[name] = stage
        elif stage is None:
            raise NotKnown(f"{instruction} before FROM")
        else:
            _do(stage, instruction, text, stages)
    if stage is None:
        raise NotKnown("a file without FROM")
    return stage


def _do(stage: Stage, instruction: str, text: str, stages: dict[str, Stage]) -> None:
    match instruction:
        case "RUN":
            in_chroot(stage, ["/bin/sh", "-c", text])
        case "COPY":
            _copy(stage, shlex.split(text), stages)
        case "ENV":
            stage.environment |= dict(pair.split("=", 1) for pair in shlex.split(text))
        case "WORKDIR":
            stage.folder = text
        case "USER":
            stage.user = text
        case "ENTRYPOINT":
            stage.entry_point = json.loads(text)
        case "CMD":
            stage.command = json.loads(text)
        case "EXPOSE":
            pass
        case _:
            raise NotKnown(instruction)


def in_chroot(stage: Stage, words: list[str]) -> None:
    """Run a program in a stage, as its user, in namespaces of its own."""
    within = ["chroot", f"--userspec={stage.user}", str(stage.root), "/usr/bin/env", "-i"]
    variables = {"PATH": os.defpath, "HOME": "/", **_settings_of_pip(), **stage.environment}
    variables["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    run = f'cd {shlex.quote(stage.folder)} && exec "$@"'
    subprocess.run(
        [
            *("unshare", "--mount", "--pid", "--fork", "--uts"),
            *("sh", "-c", 'mount -t proc proc "$1/proc" && shift && exec "$@"', "sh"),
            *(str(stage.root), *within),
            *(f"{name}={value}" for name, value in variables.items()),
            *("/bin/sh", "-c", run, "sh", *words),
        ],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )


def _settings_of_pip() -> dict[str, str]:
    found = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return {**found, "PIP_CERT": _COPY_OF_THEM} if Path(AUTHORITIES).is_file() else found


def _base(image: str, place: Path, name: str) -> Path:
    """Unpack Debian's minimal system as the root directory of a stage."""
    if image not in RELEASES:
        raise NotKnown(f"FROM {image}")
    release = RELEASES[image]
    packed = place / f"{release}.tar"
    if not packed.exists():
        place.mkdir(parents=True, exist_ok=True)
        part = packed.with_suffix(".part.tar")
        make = ["mmdebstrap", "--variant=minbase", "--quiet", release, str(part), *_mirror()]
        subprocess.run(make, check=True, stdout=sys.stderr)
        part.rename(packed)
    root = place / name
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    subprocess.run(["tar", "-xf", packed, "-C", root, "--exclude=./dev/*"], check=True)
    _give_settings(root)
    return root


def _mirror() -> list[str]:
    """Return the mirror of Debian that this machine uses, as mmdebstrap takes it."""
    targets = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian"]
    told = subprocess.run(targets, check=True, capture_output=True, text=True).stdout.split()
    return told[:1]


def _give_settings(root: Path) -> None:
    """Copy what a step needs of the machine to reach a mirror, and make the usual devices."""
    for path, where in (*((each, each) for each in _SETTINGS), (AUTHORITIES, _COPY_OF_THEM)):
        if Path(path).is_file():
            copy = root / where.lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    for name, minor, major in (("null", 3, 1), ("zero", 5, 1), ("random", 8, 1), ("urandom", 9, 1)):
        os.mknod(root / "dev" / name, 0o020666, os.makedev(major, minor))
        (root / "dev" / name).chmod(0o666)


def _copy(stage: Stage, words: list[str], stages: dict[str, Stage]) -> None:
    """Copy from another stage, or from the checkout what git knows of it."""
    if words[0].startswith("--from="):
        source = stages[words[0].removeprefix("--from=")].root
        _, what, target = words
        shutil.copytree(source / what.lstrip("/"), stage.root / target.lstrip("/"), symlinks=True)
        return
    if words[0] != "." or len(words) != 2:
        raise NotKnown(f"COPY {shlex.join(words)}")
    folder = stage.root / words[1].lstrip("/")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout.split(b"\0")
    for name in filter(None, map(os.fsdecode, names)):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def main() -> int:
    """Play the file, and try the entry point; return the exit status."""
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        print("container: this needs root, and mmdebstrap", file=sys.stderr)
        return 2
    try:
        image = play(steps(CONTAINERFILE.read_text()), PLACE)
        for trial in (image.command, *TRIALS):
            print(f"container: guestlist {shlex.join(trial)}", file=sys.stderr)
            in_chroot(image, [*image.entry_point, *trial])
    except subprocess.CalledProcessError as failed:
        print(f"container: a step failed with status {failed.returncode}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

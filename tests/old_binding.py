"""The tests over an old libvirt-python: `./dev old-binding 4.0.0 tests/test_walk.py`.

In: a release of libvirt-python, and arguments for pytest. Out: pytest's exit status. Builds the
binding in .old-binding/RELEASE against the libvirt that is installed, and runs the tests with it
instead of the one in .venv.

The generator of an old binding fails on what a newer libvirt has added. So it gets libvirt's API
description without that: functions of later releases, functions that it says it cannot generate,
and constants in a form that it cannot read.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

_USAGE = "usage: ./dev old-binding RELEASE [pytest argument ...], as in ./dev old-binding 4.0.0"

ROOT = Path(__file__).resolve().parents[1]
_APIS = {
    "libvirt": "libvirt_api",
    "libvirt-qemu": "libvirt_qemu_api",
    "libvirt-lxc": "libvirt_lxc_api",
}
_FUNCTION = re.compile(r"<function name='(\w+)'[^>]*>.*?</function>", re.DOTALL)
_SINCE = re.compile(r"<function [^>]*version='([\d.]+)'")
_ATTEMPTS = 10


def main(release: str, arguments: list[str]) -> int:
    """Build the binding, unless that is done already, and run pytest; return its exit status."""
    place = ROOT / ".old-binding" / release
    python = place / "bin/python"
    if not (place / "made").exists():
        venv.create(place, with_pip=True)
        _pip(python, "setuptools<60", "wheel")  # old bindings use distutils
        _build(python, release, place / "api")
        _see_packages(python)
        (place / "made").touch()
    return subprocess.call([python, "-m", "pytest", *arguments], cwd=ROOT)


def _build(python: Path, release: str, api: Path) -> None:
    """Build it; after each attempt leave out what the generator says it cannot do.

    Raises:
        subprocess.CalledProcessError: the build fails for another reason.
    """
    _copy_api(api, tuple(map(int, release.split("."))))
    environment = {**os.environ, "PKG_CONFIG_PATH": str(api), "CFLAGS": "-w"}
    for _ in range(_ATTEMPTS):
        try:
            _pip(python, "--no-build-isolation", f"libvirt-python=={release}", env=environment)
        except subprocess.CalledProcessError as error:
            functions = set(re.findall(r"failed (vir\w+)", error.output))
            constants = set(re.findall(r"base 10: '(\w+)'", error.output))
            if not functions | constants:
                print(error.output, file=sys.stderr)
                raise
            _leave_out(api, functions, constants)
        else:
            return


def _copy_api(api: Path, release: tuple[int, ...]) -> None:
    """Copy libvirt's API description, up to that release, and write pkg-config files for it."""
    api.mkdir(parents=True, exist_ok=True)
    for package, variable in _APIS.items():
        described = Path(_pkg_config(package, variable))
        text = _FUNCTION.sub(
            lambda found: found[0] if _is_of(found[0], release) else "", _read(described)
        )
        (api / described.name).write_text(text)
        config = _read(Path(_pkg_config(package, "pcfiledir"), f"{package}.pc"))
        config = re.sub(rf"(?m)^{variable}=.*", f"{variable}={api / described.name}", config)
        (api / f"{package}.pc").write_text(config)


def _is_of(function: str, release: tuple[int, ...]) -> bool:
    since = _SINCE.match(function)
    return since is None or tuple(map(int, since[1].split("."))) <= release


def _leave_out(api: Path, functions: set[str], constants: set[str]) -> None:
    for described in api.glob("*.xml"):
        text = _FUNCTION.sub(
            lambda found: "" if found[1] in functions else found[0], _read(described)
        )
        for constant in constants:
            text = re.sub(rf"<enum [^>]*value='{constant}'[^>]*/>", "", text)
        described.write_text(text)


def _see_packages(python: Path) -> None:
    """Let it import all other packages from .venv, after its own."""
    tell = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own, shared = (
        Path(subprocess.check_output([one, "-c", tell], text=True).strip())
        for one in (python, ROOT / ".venv/bin/python")
    )
    (own / "zz-shared.pth").write_text(f"{shared}\n{ROOT / 'src'}\n")


def _pip(python: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", *arguments],
        check=True,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _pkg_config(package: str, variable: str) -> str:
    return subprocess.check_output(
        ["pkg-config", f"--variable={variable}", package], text=True
    ).strip()


def _read(path: Path) -> str:
    return path.read_text()


if __name__ == "__main__":
    if not re.fullmatch(r"\d+(\.\d+)+", "".join(sys.argv[1:2])):
        print(_USAGE, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1], sys.argv[2:]))

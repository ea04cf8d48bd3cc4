"""Make a release, up to the upload: `./dev release 0.2.0`.

In: a version, and a clean tree. Out: a commit with the version and the changelog, an sdist and a
wheel that were tested, their checksums, and what a person does next. Uploads nothing and makes no
tag.

All of it happens in a clone. The tree gets the commit, and `dist/` the files, when everything has
passed; so a release that fails leaves no trace. A dry run (the default where `CI` is set) never
gives the commit to the tree; its files are in `.cache/release`.

The same commit gives the same bytes: the tools are those of constraints.txt, and every time in the
archives is that of the commit (SOURCE_DATE_EPOCH). The wheel is built twice, of the tree and of the
sdist, and compared.
"""

from __future__ import annotations

import argparse
import email.utils
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[1]

WITHOUT_TESTS = "checked, but not tested (--no-tests)"


class Refused(Exception):
    """The release cannot be made of this tree, or under this version."""


def main(words: list[str] | None = None) -> int:
    """Make the release; return 0, or 1 if it is refused or a step fails."""
    options = _options(words)
    try:
        version = _version(options.version, options.tree)
        with tempfile.TemporaryDirectory(prefix="guestlist-release-") as place:
            _make(version, options, Path(place))
    except Refused as refused:
        print(f"release: {refused}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as failed:
        print(f"release: a step failed: {shlex.join(map(str, failed.cmd))}", file=sys.stderr)
        return 1
    return 0


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev release", description="Make a release.")
    parser.add_argument(
        "version", nargs="?", help="as 0.2.0 or 0.2.0rc1; in a dry run the tree's own if left out"
    )
    parser.add_argument(
        "--dry-run",
        action=argparse.BooleanOptionalAction,
        default=bool(os.environ.get("CI")),
        help="leave the tree as it is; the files come to .cache/release",
    )
    parser.add_argument(
        "--tests",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run the tests of wheel and sdist; some minutes",
    )
    parser.add_argument("--tree", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.version is None and not options.dry_run:
        parser.error("which version?")
    return options


def _make(version: Version, options: argparse.Namespace, place: Path) -> None:
    clone, dist = place / "guestlist", place / "dist"
    _run("git", "clone", "--quiet", "--local", "--no-tags", options.tree, clone)
    _name_the_committer(options, clone)
    _write(version, clone)
    epoch = _told("git", "log", "-1", "--format=%ct", at=clone)
    built = _build(clone, dist, epoch)
    _compare(built, place, epoch)
    _run(sys.executable, "-m", "twine", "check", "--strict", *built)
    if options.tests:
        _run("./dev", "wheel", at=clone)
        _run("./dev", "sdist", "--quick", at=clone)
    else:
        print(f"release: {WITHOUT_TESTS}", file=sys.stderr)
    kept = _hand_over(options, clone, built)
    _report(version, kept, dry=options.dry_run)


def _version(text: str | None, tree: Path) -> Version:
    """Return the version, if this tree can become it.

    Raises:
        Refused: the tree has changes, or the text is no version, or it is not newer.
    """
    if changes := _told("git", "status", "--porcelain", at=tree):
        raise Refused(f"the tree has changes; commit them, or put them away:\n{changes}")
    present = Version(_told(sys.executable, "-m", "hatchling", "version", at=tree))
    try:
        version = present if text is None else Version(text)
    except InvalidVersion as error:
        raise Refused(f"'{text}' is no version by PEP 440, as 0.2.0 or 0.2.0rc1") from error
    if text is not None and str(version) != text:
        raise Refused(f"write the version as PEP 440 does: {version}")
    if version.local or version.is_devrelease:
        raise Refused(f"{version} cannot be on a package index as a release")
    if version < present:
        raise Refused(f"{version} is older than {present}, which the tree has")
    for tag in _told("git", "tag", "--list", "v*", at=tree).split():
        if version <= Version(tag.removeprefix("v")):
            raise Refused(f"{version} is not newer than {tag}, which is released")
    return version


def _name_the_committer(options: argparse.Namespace, clone: Path) -> None:
    """Let the clone commit as the tree does; in a dry run, also where git knows no person.

    Raises:
        Refused: git does not know who commits.
    """
    for name in ("user.name", "user.email"):  # a clone does not have those of the tree
        if value := _told("git", "config", "--default", "", "--get", name, at=options.tree):
            _run("git", "config", name, value, at=clone)
    for role in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
        asked = ["git", "var", role]
        if subprocess.run(asked, cwd=clone, check=False, capture_output=True).returncode:
            break
    else:
        return
    if not options.dry_run:
        raise Refused("git does not know who commits: set its user.name and user.email")
    _run("git", "config", "user.name", "a dry run", at=clone)
    _run("git", "config", "user.email", "dry-run@localhost", at=clone)


def _write(version: Version, clone: Path) -> None:
    """Write the version and the changelog, and commit them, in the clone."""
    present = _told(sys.executable, "-m", "hatchling", "version", at=clone)
    if str(version) != present:
        _run(sys.executable, "-m", "hatchling", "version", str(version), at=clone)
        _tell_everywhere(present, version, clone)
    _run(sys.executable, "-m", "towncrier", "build", "--yes", "--version", str(version), at=clone)
    _run("git", "add", "--all", at=clone)
    _run("git", "commit", "--quiet", "-m", f"Release {version}", at=clone)


def _tell_everywhere(before: str, version: Version, clone: Path) -> None:
    """Write the version where it is told again: the names of files in pages, Debian's changelog."""
    for page in (*clone.glob("*.md"), *(clone / "docs").glob("*.md")):
        if page.name != "CHANGELOG.md":
            text = page.read_text()
            page.write_text(
                re.sub(
                    rf"guestlist-{re.escape(before)}(?=-py3|\.tar)", f"guestlist-{version}", text
                )
            )
    changelog = clone / "debian" / "changelog"
    if changelog.exists():
        text = changelog.read_text()
        maintainer = re.search(r"(?m)^ -- (.*>)  ", text)
        if maintainer is None:
            raise Refused("debian/changelog names no maintainer")
        committed = int(_told("git", "var", "GIT_COMMITTER_IDENT", at=clone).split()[-2])
        written = email.utils.formatdate(committed)
        entry = (
            f"guestlist ({debian_version(version)}-1) unstable; urgency=medium\n\n"
            f"  * New release; CHANGELOG.md has its changes.\n\n"
            f" -- {maintainer[1]}  {written}\n\n"
        )
        changelog.write_text(entry + text)


def debian_version(version: Version) -> str:
    """Return the version for dpkg and rpm, to which 1.0~rc1 is older than 1.0."""
    return re.sub(r"(a|b|rc)", r"~\1", str(version), count=1)


def _build(source: Path, dist: Path, epoch: str) -> list[Path]:
    """Build sdist and wheel of a tree; return both files, in this order."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch}
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(dist)]
    subprocess.run(build, cwd=source, env=environment, check=True, stdout=subprocess.DEVNULL)
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    return [sdist, wheel]


def _compare(built: list[Path], place: Path, epoch: str) -> None:
    """Build the wheel once more, of the sdist, and compare the bytes.

    Raises:
        Refused: they differ.
    """
    sdist, wheel = built
    shutil.unpack_archive(sdist, place / "unpacked", filter="data")
    (source,) = (place / "unpacked").iterdir()
    _, again = _build(source, place / "again", epoch)
    if _sha256(wheel) != _sha256(again):
        raise Refused(f"{wheel.name} is another one when it is built of {sdist.name}")


def _hand_over(options: argparse.Namespace, clone: Path, built: list[Path]) -> list[Path]:
    """Bring the files to where they stay and, unless this is a dry run, the commit to the tree."""
    tree: Path = options.tree
    if not options.dry_run:
        _run("git", "pull", "--quiet", "--ff-only", clone, "HEAD", at=tree)
    place = tree / (".cache/release" if options.dry_run else "dist")
    if options.dry_run:
        shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copy2(each, place)) for each in built]


def _report(version: Version, files: list[Path], *, dry: bool) -> None:
    for file in files:
        print(f"{_sha256(file)}  {file}")
    if dry:
        print(f"A dry run of {version}: the tree is as it was, and nothing was uploaded.")
        return
    names = shlex.join(str(file) for file in files)
    print(
        f"""{version} is committed, and nothing was uploaded. Next:
  git show                                   # read the changelog once more
  git tag --sign --message 'guestlist {version}' v{version}
  git push origin HEAD v{version}
  twine upload {names}
and put the checksums above into the notes of the release at the forge."""
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _run(*words: str | Path, at: Path | None = None) -> None:
    print(f"release: {shlex.join(map(str, words))}", file=sys.stderr)
    subprocess.run(words, cwd=at, check=True, stdout=sys.stderr)


def _told(*words: str, at: Path) -> str:
    done = subprocess.run(words, cwd=at, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())

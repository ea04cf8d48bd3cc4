"""`./dev release`: what it refuses, what it leaves, and that a commit gives the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RELEASE = ROOT / "tools" / "release.py"

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git repository to clone"),
]

PERSON = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "A Person"), ("EMAIL", "person@example.org"))
}


def git(tree: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words],
        cwd=tree,
        env={**os.environ, **PERSON},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clone of this repository, with the files as they are now, committed.

    It has the tag v9.0. No test changes it.
    """
    place = tmp_path_factory.mktemp("release") / "guestlist"
    git(ROOT, "clone", "--quiet", "--local", "--no-tags", str(ROOT), str(place))
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard")
    kept = {name for name in listed.splitlines() if (ROOT / name).is_file()}
    for name in set(git(place, "ls-files").splitlines()) - kept:
        (place / name).unlink()
    for name in kept:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / name)
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--allow-empty", "-m", "As it is")
    git(place, "tag", "v9.0")
    return place


@pytest.fixture
def tree(untouched: Path, tmp_path: Path) -> Path:
    """Return a clone of that clone, without its tag."""
    git(tmp_path, "clone", "--quiet", "--local", "--no-tags", str(untouched), "guestlist")
    return tmp_path / "guestlist"


def release(
    tree: Path, *words: str, person: Mapping[str, str] = PERSON, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, RELEASE, "--tree", tree, "--no-tests", *words],
        env={**environment, **person, **variables},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("today", "no version by PEP 440"),
        ("1.0-rc.1", "write the version as PEP 440 does: 1.0rc1"),
        ("v9.0", "write the version as PEP 440 does: 9.0"),
        ("9.0+mine", "cannot be on a package index"),
        ("9.0.dev1", "cannot be on a package index"),
        ("0.0.1", "is older than"),
        ("9.0", "is not newer than v9.0, which is released"),
        ("8.5", "is not newer than v9.0, which is released"),
    ],
)
def test_a_version_that_cannot_be_is_refused(untouched: Path, version: str, said: str) -> None:
    done = release(untouched, version)
    assert done.returncode == 1
    assert said in done.stderr


def test_a_tree_with_changes_is_refused(tree: Path) -> None:
    (tree / "forgotten").touch()
    done = release(tree, "9.0")
    assert done.returncode == 1
    assert "the tree has changes" in done.stderr
    assert "forgotten" in done.stderr


def test_only_a_dry_run_needs_no_person(tree: Path, tmp_path: Path) -> None:
    """A container, or a runner of a forge, has none: git would make up no name."""
    unknown = {
        "HOME": str(tmp_path),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "user.useConfigOnly",
        "GIT_CONFIG_VALUE_0": "true",
    }
    done = release(tree, "9.1", person=unknown)
    assert done.returncode == 1
    assert "git does not know who commits" in done.stderr
    done = release(tree, "--dry-run", person=unknown)
    assert done.returncode == 0, done.stderr
    assert "the tree is as it was" in done.stdout


def test_without_a_version_only_a_dry_run_goes_on(untouched: Path) -> None:
    done = release(untouched)
    assert done.returncode == 2
    assert "which version?" in done.stderr


def test_a_dry_run_leaves_the_tree_and_a_release_is_then_one_commit_with_the_same_bytes(
    tree: Path,
) -> None:
    when = {"GIT_COMMITTER_DATE": "2026-01-02T03:04:05Z", "GIT_AUTHOR_DATE": "2026-01-02T03:04:05Z"}
    before = git(tree, "rev-parse", "HEAD")
    tried = release(tree, "9.0rc1", CI="true", **when)
    assert tried.returncode == 0, tried.stderr
    assert "nothing was uploaded" in tried.stdout
    assert git(tree, "rev-parse", "HEAD") == before
    assert git(tree, "status", "--porcelain") == ""

    done = release(tree, "9.0rc1", "--no-dry-run", CI="true", **when)
    assert done.returncode == 0, done.stderr
    names = {"guestlist-9.0rc1.tar.gz", "guestlist-9.0rc1-py3-none-any.whl"}
    for made in (tree / "dist", tree / ".cache" / "release"):
        assert {path.name for path in made.iterdir()} == names
    assert sums(done) == sums(tried)
    assert "git tag --sign" in done.stdout
    assert git(tree, "rev-parse", "HEAD~") == before
    assert git(tree, "log", "-1", "--format=%s") == "Release 9.0rc1"
    assert git(tree, "tag") == ""
    assert git(tree, "status", "--porcelain") == ""
    assert list((tree / "newsfragments").glob("+*.md")) == []
    assert "dist/guestlist-9.0rc1-py3-none-any.whl" in (tree / "docs" / "nova.md").read_text()
    debian = tree / "debian" / "changelog"
    assert not debian.exists() or debian.read_text().startswith("guestlist (9.0~rc1-1) unstable")
    changes = (tree / "CHANGELOG.md").read_text()
    assert changes.index("## 9.0rc1 (") < changes.index("### ")


def sums(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return the checksums that a release printed, by the names of the files."""
    lines = (line.split("  ") for line in done.stdout.splitlines())
    return {
        Path(path).name: digest for digest, *rest in lines if len(digest) == 64 for path in rest
    }

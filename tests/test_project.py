"""What a package index, a forge and a distribution read of the project: it is true and complete."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit

import lxml.html
import pytest
import yaml

import build_metadata

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPOSITORY = PROJECT["urls"]["Source"]
PYTHON = "Programming Language :: Python :: 3."


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Message:
    """Return the metadata of a wheel that is built of this tree."""
    place = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", place], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith("/METADATA"))
        return email.message_from_bytes(files.read(name))


@pytest.mark.heavy
def test_each_link_of_the_description_resolves_anywhere(metadata: Message) -> None:
    pytest.importorskip("readme_renderer")
    from readme_renderer import markdown  # noqa: PLC0415

    assert metadata["Description-Content-Type"] == "text/markdown"
    shown = markdown.render(str(metadata.get_payload(decode=True), "utf-8"))
    assert shown
    page = lxml.html.fromstring(f"<div>{shown}</div>")
    here = {f"#{each}" for each in page.xpath("//@id")}  # the headings have links to themselves
    links = [link for _, _, link, _ in page.iterlinks() if link not in here]
    assert len(links) > 5
    assert [link for link in links if urlsplit(link).scheme != "https"] == []
    for link in links:
        if link.startswith((f"{REPOSITORY}/blob/", f"{REPOSITORY}/raw/")):
            revision, _, path = urlsplit(link).path.split("/", 4)[4].partition("/")
            assert revision == f"v{metadata['Version']}"
            assert (ROOT / path).exists(), link


@pytest.mark.heavy
def test_the_metadata_has_the_addresses_of_the_project(metadata: Message) -> None:
    urls = dict(url.split(", ", 1) for url in metadata.get_all("Project-URL") or ())
    assert urls == PROJECT["urls"]
    assert set(urls) == {
        *("Homepage", "Documentation", "Source", "Issues", "Changelog", "Security")
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[a](docs/a.md)", "[a](https://r/blob/v1/docs/a.md)"),
        ("[a](docs/a.md#b)", "[a](https://r/blob/v1/docs/a.md#b)"),
        ("[a](#b)", "[a](https://r/blob/v1/README.md#b)"),
        ("![a](docs/a.svg)", "![a](https://r/raw/v1/docs/a.svg)"),
        (
            "[![a](docs/a.svg)](docs/a.md)",
            "[![a](https://r/raw/v1/docs/a.svg)](https://r/blob/v1/docs/a.md)",
        ),
        ('<img width="9" src="a.svg">', '<img width="9" src="https://r/raw/v1/a.svg">'),
        ('<a href="docs/">x</a>', '<a href="https://r/blob/v1/docs/">x</a>'),
        ("[1]: docs/a.md", "[1]: https://r/blob/v1/docs/a.md"),
        ("[a](https://x/)", "[a](https://x/)"),
        ("[a](mailto:x@y)", "[a](mailto:x@y)"),
        ("```sh\n[a](b)\n```\n[a](b)", "```sh\n[a](b)\n```\n[a](https://r/blob/v1/b)"),
    ],
)
def test_links_become_absolute(text: str, shown: str) -> None:
    assert build_metadata.absolute(text, "https://r", "v1") == shown


def test_the_address_of_the_project_is_in_one_place() -> None:
    """Only what a forge or a reader needs whole names it again, and then it is the same."""
    for path in [
        *(ROOT / ".github").rglob("*.*"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
        *(ROOT / "docs").glob("*.md"),
    ]:
        found = re.findall(r"https://github\.com/guestlist/[\w.-]+", path.read_text())
        assert set(found) <= {REPOSITORY}, path


def test_every_list_of_pythons_is_the_same() -> None:
    """The classifiers, the forge's matrix, requires-python, and what the documentation says."""
    pythons = [each.removeprefix(PYTHON) for each in PROJECT["classifiers"] if PYTHON in each]
    oldest, newest = pythons[0], pythons[-1]
    assert pythons == [str(n) for n in range(int(oldest), int(newest) + 1)]
    assert PROJECT["requires-python"] == f">=3.{oldest}"
    forge = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    matrix = forge["jobs"]["pythons"]["strategy"]["matrix"]["python"]
    assert matrix == [f"3.{each}" for each in pythons]
    packages = (ROOT / "docs/packages.md").read_text()
    (said,) = re.findall(r"Python (3\.\d+) to (3\.\d+)", packages)
    assert said == (f"3.{oldest}", f"3.{newest}")
    readme = (ROOT / "README.md").read_text()
    assert set(re.findall(r"Python (3\.\d+) or newer", readme)) <= {f"3.{oldest}"}


def test_the_forge_runs_commands_that_exist() -> None:
    from lab.names import dev_commands  # noqa: PLC0415

    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    listed = " ".join(step.get("run", "") for step in steps)
    named = set(re.findall(r"\./dev ([a-z-]+)", listed))
    named |= set(jobs["packages"]["strategy"]["matrix"]["package"])
    assert named - set(dev_commands()) == set()
    tests = re.findall(r"tests/test_\w+\.py", listed)
    assert [name for name in tests if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize(
    ("schema", "pattern"),
    [
        ("vendor.github-workflows", ".github/workflows/*.yml"),
        ("vendor.github-issue-forms", ".github/ISSUE_TEMPLATE/[!c]*.yml"),
    ],
)
def test_the_forges_files_fit_their_schemas(schema: str, pattern: str) -> None:
    pytest.importorskip("check_jsonschema")
    files = [str(path) for path in ROOT.glob(pattern)]
    assert files
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files]
    done = subprocess.run(check, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout

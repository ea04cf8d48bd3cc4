"""The documentation names only what exists: files, modules, tests, commands and options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lab.names import ROOT, dev_commands, is_command, is_module, is_public_name

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "CODE_OF_CONDUCT.md",
    *sorted(set((ROOT / "docs").rglob("*.md")) - set((ROOT / "docs" / "reference").rglob("*.md"))),
    *sorted((ROOT / "newsfragments").glob("*.md")),
]
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
DOCS = {name: text for name, text in TEXTS.items() if not name.startswith("newsfragments/")}

IN_NOVA_CONF = "guestlist.LibvirtDriver"
"""A name that only Nova understands; `guestlist.nova.finding` gives it to Nova."""

_FOLDERS = {
    *("benchmarks", "constraints", "contrib", "demo", "docs", "newsfragments", "packaging"),
    *("pictures", "src", "stubs", "tests", "tools", "torture"),
}
_PLACEHOLDER = re.compile(r" ([A-Z]+|-c URI -c URI)$")
_is_log_line = re.compile(r"guestlist (\d|leaves ).*").match
_is_path = re.compile(r"[\w./+*-]+").fullmatch


def code(text: str) -> list[str]:
    """Return what stands between backticks in a line, a cell's escaped `|` as a plain one."""
    without_blocks = re.sub(r"```.*?```", "", text, flags=re.S)
    joined = re.sub(r"(?<!\n)\n(?!\n)", " ", without_blocks)
    return [found.replace(r"\|", "|") for found in re.findall(r"`([^`]+)`", joined)]


def console(text: str) -> list[str]:
    """Return the commands of a page's blocks: lines after a prompt, and lines that are indented."""
    return re.findall(r"^(?:\$ |    )(\S.*)$", text, re.M)


def exists(path: str) -> bool:
    """Return whether a file is there, or one of the pattern: `docs/x.*`, `nova-SERIES.txt`."""
    return any(ROOT.glob(path.replace("SERIES", "*")))


@pytest.mark.parametrize("page", TEXTS)
def test_each_file_that_a_page_names_exists(page: str):
    named = {
        name.rstrip("/")
        for name in code(TEXTS[page])
        if _is_path(name) and name.partition("/")[0] in _FOLDERS and "/" in name
    }
    assert [name for name in named if not exists(name)] == []


@pytest.mark.parametrize("page", DOCS)
def test_each_link_between_the_pages_leads_to_a_file(page: str):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", DOCS[page])
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("page", TEXTS)
def test_each_dev_command_that_a_page_names_exists(page: str):
    for line in (*code(TEXTS[page]), *console(TEXTS[page])):
        if not (said := re.search(r"\./dev (\S+)(?: (\w+))?", line)):
            continue
        command, what = said.groups()
        assert command in dev_commands(), line
        if command in ("bench", "torture") and what:
            folder = "benchmarks" if command == "bench" else command
            assert (ROOT / folder / f"{what}.py").is_file(), line


@pytest.mark.parametrize("page", TEXTS)
def test_each_line_for_the_command_that_a_page_shows_is_one_that_it_takes(page: str):
    for line in (*code(TEXTS[page]), *console(TEXTS[page])):
        if re.match(r"guestlist(-env/bin/guestlist)? ", line) and not _is_log_line(line):
            assert is_command(_PLACEHOLDER.sub("", line)), line


@pytest.mark.parametrize("page", TEXTS)
def test_each_module_and_name_of_the_package_that_a_page_names_exists(page: str):
    names = {name for name in code(TEXTS[page]) if re.fullmatch(r"guestlist(\.\w+)+", name)}
    names -= {IN_NOVA_CONF}
    assert [name for name in names if not is_module(name) and not is_public_name(name)] == []


@pytest.mark.parametrize("page", DOCS)
def test_each_test_that_a_page_names_exists(page: str):
    sources = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    named = {name for name in code(DOCS[page]) if re.fullmatch(r"test_\w+", name)}
    missing = {name for name in named if f"def {name}(" not in sources}
    if page == "docs/nova.md":  # names modules of Nova's own tests
        missing -= {"test_host", "test_driver", "test_guest"}
    assert not missing


def test_the_map_of_the_code_lists_each_module_once():
    map_ = re.search(r"## The map of the code.*?```\n(.*?)```", TEXTS["CONTRIBUTING.md"], re.S)
    assert map_ is not None
    listed = re.findall(r"^(?:\w+ +| {10})([a-z_]+(?:\.py|/))(?= )", map_[1], re.M)
    package = ROOT / "src" / "guestlist"
    there = {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    there |= {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert sorted(listed) == sorted(there)
    files = set(re.findall(r"([a-z_0-9]+\.py)", map_[1]))
    assert files <= {path.name for path in package.rglob("*.py")}


def test_the_laboratory_names_files_that_there_are():
    part = TEXTS["CONTRIBUTING.md"].partition("## The laboratory")[2].partition("\n## ")[0]
    files = {name for name in code(part) if re.fullmatch(r"\w+\.py", name)}
    assert len(files) > 5
    assert [name for name in files if not (ROOT / "tests" / "lab" / name).is_file()] == []


def test_a_name_that_does_not_exist_is_found(tmp_path: Path):
    assert not exists("docs/whom.md")
    assert not is_command("guestlist ls --nobody")
    assert code("a `docs/a.md`\n`./dev\nbench listing`") == ["docs/a.md", "./dev bench listing"]

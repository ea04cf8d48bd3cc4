"""The file of hosts: names and URIs."""

from __future__ import annotations

from pathlib import Path

import pytest

from guestlist.settings_file import BadSettings, Files
from guestlist.several.hosts_file import distinct_hosts, uris_in


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "hosts.yml"


def test_it_has_names_and_uris_in_its_order(file: Path) -> None:
    file.write_text(
        "# our hosts\nnode2: qemu+tls://node2/system\n"
        "node1:\n  uri: qemu+ssh://node1/system\n'10': node10\n"
    )
    found = distinct_hosts(file)
    assert list(found.items()) == [
        ("node2", "qemu+tls://node2/system"),
        ("node1", "qemu+ssh://node1/system"),
        ("10", "node10"),
    ]
    assert uris_in(file, Files()) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "{file} names no host; a line of it reads, for example, node1: qemu+tls://node1/system"),
        ("# all of them\n", "{file} names no host"),
        ("- qemu:///system", "{file} has no keys with values, as in node1: qemu+tls://node1/system"),
        ("node1", "{file} has no keys with values, as in node1: qemu+tls"),
        ("node1:", "{file}: host 'node1' has no URI"),
        ("node1: {url: a}", "{file}: host 'node1' has the unknown key 'url'; known: uri"),
        ("node1: a\nnode2: b\nnode1: c", "{file}, line 1: the key 'node1' is there twice"),
        (
            "node1: qemu:///a\nnode2: {uri: qemu:///a}",
            "{file}: hosts 'node1' and 'node2' have the same URI, qemu:///a; which is it?",
        ),
        ("'': qemu:///system", "{file}: host '' is no name: it is empty, or cannot be printed"),
        ('"a\\e[1m": qemu:///system', "is no name: it is empty, or cannot be printed"),
        ("12: qemu:///system", "{file}: the key 12 is no text; put it between quotes"),
        ("a: b\n---\nc: d", "{file}, line 2: but found another document"),
        ("\0", "{file} is no YAML text in UTF-8"),
    ],
)  # fmt: skip
def test_a_file_that_makes_no_sense_is_one_line(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(BadSettings) as raised:
        distinct_hosts(file)
    assert said.format(file=file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(BadSettings) as raised:
        distinct_hosts(file)
    assert str(raised.value) == f"cannot read the file of hosts {file}: No such file or directory"


def test_an_alias_of_libvirt_conf_and_its_uri_are_one_host(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = tmp_path / "libvirt.conf"
    configuration.write_text('uri_aliases = ["n1=qemu+tls://node1/system"]\n')
    monkeypatch.setattr("guestlist.uris._configuration", configuration.read_text)
    file.write_text("node1: n1\nnode2: qemu+tls://node1/system\n")
    with pytest.raises(BadSettings, match="'node1' and 'node2' have the same URI"):
        distinct_hosts(file)


def test_ten_thousand_hosts_are_compared_with_few_of_them(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look for a key in the list of those before it took 50 million comparisons."""
    many = {f"node{n}": f"qemu+tls://node{n}/system" for n in range(10_000)}
    file.write_text("".join(f"{name}: {uri}\n" for name, uri in many.items()))
    assert distinct_hosts(file) == many

"""What docs/threat-model.md and SECURITY.md promise, where no test of a module shows it already."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from lab.ssh import Ssh

from guestlist import Host
from guestlist.cli.arguments import COMMANDS
from guestlist.errors import ConnectionFailed

ROOT = Path(__file__).parents[1]

MEMORY = 1 << 30
"""Bytes of address space for a parse; what the documents ask for is three times as much."""

READ = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
from guestlist.domainxml import parse
try:
    details = parse(sys.stdin.read())
except ValueError as error:
    print("refused")
else:
    print(details.name, details.type, details.unknown[0])
"""

LAUGHS = "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 10))
"""Entities of which the last one stands for three thousand million characters."""


@pytest.mark.parametrize("where", ["<domain><name>{}</name></domain>", "<domain type='{}'/>"])
def test_a_document_that_expands_is_refused_in_little_memory(where: str) -> None:
    xml = f"<!DOCTYPE domain [<!ENTITY l0 'lol'>{LAUGHS}]>{where.format('&l9;')}"
    ended = subprocess.run(
        [sys.executable, "-c", READ], input=xml, capture_output=True, text=True, check=True
    )
    assert ended.stdout in ("refused\n", "None None xml: document type\n")


@pytest.mark.parametrize(
    "declared",
    [
        "<!DOCTYPE domain SYSTEM '{}'><domain/>",
        "<!DOCTYPE domain [<!ENTITY % a SYSTEM '{}'> %a;]><domain/>",
    ],
)
def test_a_document_that_names_an_address_fetches_nothing(declared: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        xml = declared.format(f"http://127.0.0.1:{listening.getsockname()[1]}/x.dtd")
        subprocess.run([sys.executable, "-c", READ], input=xml, text=True, check=True)
        with pytest.raises(BlockingIOError):
            listening.accept()


@pytest.mark.heavy
def test_the_name_of_a_host_is_never_an_option_of_ssh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = Ssh(tmp_path, "")
    monkeypatch.setenv("PATH", ssh.path)
    evil = f"-oProxyCommand=touch%20{tmp_path}/run"
    with Host(f"test+ssh://{evil}/default", open_timeout=1.0) as host:
        with pytest.raises(ConnectionFailed):
            host.list_instance_domains()
    assert all("ProxyCommand" not in word for each in ssh.started for word in each.words)
    assert not (tmp_path / "run").exists()


def test_security_says_with_which_rights_each_command_runs() -> None:
    said = set(re.findall(r"[a-z-]+", (ROOT / "SECURITY.md").read_text()))
    assert set(COMMANDS) - {"completion"} - said == set()

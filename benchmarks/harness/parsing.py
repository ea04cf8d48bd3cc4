"""What a domain's XML costs to parse: guestlist's parser, and lxml's alone, on the same documents.

In: Nova's documents of tests/corpus. Out: by document, its length and seconds of each way. Each
document is written back by libvirt's test driver, as a host would write it, and then copied with
other UUIDs, MAC addresses and port ids, as if for many domains. In each round lxml parses the
copies of that round, guestlist parses them for the first time, and guestlist parses them again: it
remembers some values by their text. Times are this thread's processor time: none of the ways waits.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import thread_time

import libvirt
from lxml import etree

import corpus
from guestlist import domainxml

SHORTEST, LONGEST = 3_000, 10_000
"""Bytes of the documents that are measured."""

_COPIES = 20

_UUID_END = re.compile(r"(?<=-[0-9a-f]{8})[0-9a-f]{4}(?=['\"<])")
_MAC_END = re.compile(r"(?<=:[0-9a-f]{2}:)[0-9a-f]{2}:[0-9a-f]{2}(?=['\"])")


@dataclass(slots=True)
class Parsed:
    """One document: its bytes, and seconds for one parse of it in each round."""

    size: int
    lxml: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)

    def ratio(self, times: Sequence[float]) -> float:
        """Return how many times as long guestlist took: the median of the rounds."""
        return median(one / bare for one, bare in zip(times, self.lxml, strict=True))


def measure(rounds: int) -> dict[str, Parsed]:
    """Parse each document in so many rounds. Cost: 5 ms for each document and round."""
    parsed = {}
    with _documents() as documents:
        for name, document in documents:
            parsed[name] = Parsed(len(document.encode()))
            for number in range(rounds):
                _round(document, number, parsed[name])
    return parsed


def _round(document: str, number: int, parsed: Parsed) -> None:
    copies = [_copy(document, number * _COPIES + n) for n in range(_COPIES)]
    parsed.lxml.append(_seconds(etree.fromstring, copies))
    parsed.first.append(_seconds(domainxml.parse, copies))
    parsed.again.append(_seconds(domainxml.parse, copies))


def _seconds(parse: Callable[[str], object], copies: Sequence[str]) -> float:
    start = thread_time()
    for copy in copies:
        parse(copy)
    return (thread_time() - start) / len(copies)


def _copy(document: str, n: int) -> str:
    """Return the document as that of another domain."""
    document = _UUID_END.sub(f"{n:04x}", document)
    return _MAC_END.sub(f"{n // 256:02x}:{n % 256:02x}", document)


@contextlib.contextmanager
def _documents() -> Iterator[list[tuple[str, str]]]:
    """Yield Nova's documents of the right length, as libvirt writes them for active domains."""
    with tempfile.TemporaryDirectory() as directory:
        node = Path(directory) / "node.xml"
        node.write_text("<node/>")
        connection = libvirt.open(f"test://{node}")
        try:
            written = []
            for name in corpus.NAMES:
                if name.startswith("nova-") and name not in corpus.REFUSED:
                    domain = connection.defineXML(corpus.xml(name))
                    domain.create()
                    document = domain.XMLDesc(0)
                    if SHORTEST <= len(document) <= LONGEST:
                        written.append((name, document))
            yield written
        finally:
            connection.close()

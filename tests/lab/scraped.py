"""A scrape, read back by Prometheus's own parser.

In: an exposition. Out: its samples. A series that stands there twice, a family that is torn apart
and a line that is no sample end the test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Series = tuple[str, frozenset[tuple[str, str]]]

_HEADER = re.compile(r"# TYPE (\S+) (\S+)")


@dataclass(frozen=True)
class Scraped:
    """The samples of one scrape, by name and labels, and the types of their families."""

    values: Mapping[Series, float] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, exposition: bytes) -> Scraped:
        """Read an exposition."""
        values: dict[Series, float] = {}
        text = exposition.decode()
        names = [family.name for family in text_string_to_metric_families(text)]
        assert len(names) == len(set(names)), "a family stands there twice"
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                series = sample.name, frozenset(sample.labels.items())
                assert series not in values, f"{series} stands there twice"
                values[series] = sample.value
        return cls(values, dict(_HEADER.findall(text)))

    def of_name(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        """Yield labels and value of each sample of this name."""
        for (its_name, labels), value in self.values.items():
            if its_name == name:
                yield dict(labels), value

    def get(self, name: str, **labels: str) -> float | None:
        """Return the one sample that has these labels, perhaps among others; None: there is none.

        Raises:
            AssertionError: there are several.
        """
        wanted = labels.items()
        found = [value for its, value in self.of_name(name) if wanted <= its.items()]
        assert len(found) <= 1, f"{len(found)} series of {name} have {labels}"
        return found[0] if found else None

    def labels(self, name: str, **labels: str) -> dict[str, str]:
        """Return all labels of the one sample that has these."""
        wanted = labels.items()
        (found,) = [its for its, _ in self.of_name(name) if wanted <= its.items()]
        return found

    def domains(self, name: str) -> set[str]:
        """Return the domains that have samples of this name."""
        return {labels["domain"] for labels, _ in self.of_name(name)}

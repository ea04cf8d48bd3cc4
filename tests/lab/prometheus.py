"""Debian's Prometheus as a process that scrapes what a test serves, and answers its queries.

In: the scrape configurations of a test. Out: a `Prometheus`: values by PromQL, and the health of
the targets. It listens on loopback and keeps its data in a temporary folder. `./dev` unpacks the
package and installs nothing, since the package starts a server on all interfaces.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.programs import LONG
from lab.quick import refuse_if_quick
from lab.waiting import wait_until

Config = Mapping[str, Any]
"""One entry of `scrape_configs`."""


def prometheus_available() -> str | None:
    """Return why Prometheus cannot be run here; None: it can."""
    return None if shutil.which("prometheus") else "Prometheus is missing (Debian: prometheus)"


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus that runs."""

    port: int

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series that an expression gives now."""
        found = self._ask("query", query=expression)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def history(self, expression: str) -> list[tuple[dict[str, str], list[float]]]:
        """Return labels and all values, in order, of each series of a range ("up[5m]")."""
        found = self._ask("query", query=expression)["result"]
        return [(each["metric"], [float(value) for _, value in each["values"]]) for each in found]

    def value(self, expression: str) -> float | None:
        """Return the value of the one series that an expression gives; None: it gives none.

        Raises:
            AssertionError: it gives several.
        """
        found = self.query(expression)
        assert len(found) <= 1, f"{expression}: {found}"
        return found[0][1] if found else None

    def range(
        self, expression: str, start: int, end: int
    ) -> list[tuple[dict[str, str], list[float | None]]]:
        """Return labels and values of each series that an expression gives in a span of time.

        A value for each second from `start` to `end`, in Unix time; None: there is none.
        """
        found = self._ask("query_range", query=expression, start=start, end=end, step=1)["result"]
        series = []
        for each in found:
            by_time = {round(time): float(value) for time, value in each["values"]}
            series.append((each["metric"], [by_time.get(time) for time in range(start, end + 1)]))
        return series

    def label_values(self, label: str, selector: str) -> list[str]:
        """Return the values of a label that the selected series have."""
        return list(self._ask(f"label/{label}/values", **{"match[]": selector}))

    def wait(self, expression: str, wanted: float) -> None:
        """Wait until an expression gives this value.

        Raises:
            TimeoutError: it does not.
        """
        wait_until(lambda: self.value(expression) == wanted)

    def last_error(self, job: str) -> str:
        """Return why the last scrape of the one target of a job failed; "": it did not."""
        (found,) = [
            each for each in self._ask("targets")["activeTargets"] if each["labels"]["job"] == job
        ]
        return str(found["lastError"])

    def _ask(self, what: str, **parameters: str | int) -> Any:
        query = urllib.parse.urlencode(parameters)
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{query}"
        with urllib.request.urlopen(url, timeout=LONG) as answer:
            return json.load(answer)["data"]


@contextlib.contextmanager
def prometheus(
    configs: Sequence[Config], interval: str = "1s", rules: Sequence[Path] = ()
) -> Iterator[Prometheus]:
    """Run Prometheus until the block ends; it scrapes each target once in an interval.

    A scrape may take as long as the interval. The rules of these files are evaluated as often.
    """
    refuse_if_quick("Prometheus")
    with tempfile.TemporaryDirectory(prefix="gl-") as name:
        place = Path(name)
        config, log = place / "prometheus.yml", place / "log"  # JSON is YAML
        names = "scrape_interval", "scrape_timeout", "evaluation_interval"
        settings = {
            "global": dict.fromkeys(names, interval),
            "rule_files": [str(path) for path in rules],
            "scrape_configs": list(configs),
        }
        config.write_text(json.dumps(settings))
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={place / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ]
        with (
            log.open("wb") as output,
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            ) as process,
        ):

            def port() -> int | None:
                found = re.search(r"address=127\.0\.0\.1:([1-9]\d*)", log.read_text())
                return int(found[1]) if found else None

            try:
                wait_until(lambda: port() is not None or process.poll() is not None)
                listening = port()
                assert listening is not None, log.read_text()
                server = Prometheus(listening)
                wait_until(lambda: _is_ready(listening))
                yield server
            finally:
                process.kill()


def _is_ready(port: int) -> bool:
    with contextlib.suppress(OSError):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=LONG) as answer:
            return bool(answer.status == 200)
    return False

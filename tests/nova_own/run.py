"""Nova's own tests of its libvirt driver, with guestlist's classes in place of Nova's.

In: a series, a concurrency mode (else each), and `expected.toml`. Out: counts, the tracebacks of
what failed unexpectedly, and success only if just those failed that are expected to. Two processes
(`shard.py`) run the tests. Runs with the Python of a Nova environment.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from shard import TESTS, is_chosen

HERE = Path(__file__).parent
SHARES = 2
SECONDS_A_TEST = "160"
"""As in Nova's tox.ini. A green thread that holds up the rest is beyond its reach."""

SECONDS_A_SHARE = {"unit": 540, "functional": 3_000}
"""After which what hangs is ended, and the test it hangs in is known."""

THREADING_SINCE = "2026.1"
"""The first series whose nova-compute has a threading mode; eventlet's is in all."""

Outcomes = dict[str, tuple[str, str]]
"""Test -> outcome and detail."""


def modes_of(series: str) -> list[str]:
    return ["threading", "eventlet"] if series >= THREADING_SINCE else ["eventlet"]


def environment_of(mode: str) -> dict[str, str]:
    return {
        **os.environ,
        "OS_NOVA_DISABLE_EVENTLET_PATCHING": str(mode == "threading").lower(),
        "OS_TEST_TIMEOUT": SECONDS_A_TEST,
        "OS_STDOUT_CAPTURE": "1",
        "OS_STDERR_CAPTURE": "1",
        "LC_ALL": "C.UTF-8",
        "PYTHONWARNINGS": "ignore",
    }


def run_shares(
    suite: str, mode: str, plain: bool, patterns: list[str], left_out: set[str]
) -> tuple[Outcomes, bool]:
    """What became of each test, and whether every process came to its end."""
    command = [sys.executable, str(HERE / "shard.py"), f"--suite={suite}", f"--shares={SHARES}"]
    command += ["--plain"] * plain + [f"-k={pattern}" for pattern in patterns]
    command += [f"--leave-out={test}" for test in sorted(left_out)]
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder, f"{share}.jsonl") for share in range(SHARES)]
        logs = [Path(folder, f"{share}.log") for share in range(SHARES)]
        processes = [
            subprocess.Popen(
                [*command, f"--share={share}", f"--out={out}"],
                cwd=folder,
                env=environment_of(mode),
                stdout=log.open("w"),
                stderr=subprocess.STDOUT,
            )
            for share, (out, log) in enumerate(zip(outs, logs, strict=True))
        ]
        ended = [comes_to_its_end(process, SECONDS_A_SHARE[suite]) for process in processes]
        for log, well in zip(logs, ended, strict=True):
            if not well:
                print(log.read_text()[-4000:])
        return read_outcomes(outs), all(ended)


def comes_to_its_end(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False


def read_outcomes(files: list[Path]) -> Outcomes:
    outcomes: Outcomes = {}
    for file in files:
        for line in file.read_text().splitlines() if file.exists() else []:
            test, outcome, detail = json.loads(line)
            outcomes[test.removeprefix(TESTS)] = outcome, detail
    return outcomes


def listed(suite: str, series: str, mode: str, plain: bool, *, hang: bool) -> set[str]:
    """The tests that `expected.toml` has for such a run: those that fail, or those that hang."""
    entries = tomllib.loads((HERE / "expected.toml").read_text()).get("expected", [])
    return {
        test
        for entry in entries
        if series in entry.get("series", [series])
        and mode in entry.get("modes", [mode])
        and (entry.get("plain", False) or not plain)
        and entry.get("hang", False) == hang
        for test in entry["tests"]
        if test.startswith(suite)
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev nova-tests", description=__doc__.splitlines()[0])
    parser.add_argument("--series", default="2026.2", help="of OpenStack (2026.2)")
    parser.add_argument(
        "--mode", choices=["threading", "eventlet"], help="else in each that this Nova has"
    )
    parser.add_argument(
        "--functional",
        dest="suite",
        action="store_const",
        const="functional",
        default="unit",
        help="Nova's functional tests of it in place of its unit tests; half an hour a mode",
    )
    parser.add_argument("--plain", action="store_true", help="Nova's own classes: the baseline")
    parser.add_argument(
        "-k", action="append", default=[], metavar="PATTERN", help="only these tests"
    )
    options = parser.parse_args()
    modes = modes_of(options.series)
    if options.mode and options.mode not in modes:
        parser.error(f"nova-compute of {options.series} has no mode but {', '.join(modes)}")
    fine = [run(options, mode) for mode in ([options.mode] if options.mode else modes)]
    return not all(fine)


def run(options: argparse.Namespace, mode: str) -> bool:
    """Run the tests in one mode, and say what came of it; whether that is what is expected."""
    began = time.monotonic()
    left_out = listed(options.suite, options.series, mode, options.plain, hang=True)
    outcomes, whole = run_shares(options.suite, mode, options.plain, options.k, left_out)
    expected = listed(options.suite, options.series, mode, options.plain, hang=False)
    expected = {test for test in expected if is_chosen(TESTS + test, options.k)}
    failed = {
        test for test, (outcome, _) in outcomes.items() if outcome in ("failed", "unfinished")
    }
    for test in sorted(failed - expected):
        print(f"FAILED {test} ({outcomes[test][0]})\n{outcomes[test][1]}")
    for test in sorted(expected - failed):
        print(
            f"{test}: expected to fail, but", outcomes.get(test, ("there is no such test", ""))[0]
        )

    counts = Counter(outcome for outcome, _ in outcomes.values())
    print(
        f"Nova {version('nova')} ({options.series}), {options.suite} tests, {mode},",
        f"{'Nova' if options.plain else 'guestlist'}'s classes: {counts['passed']} passed,",
        f"{counts['skipped']} skipped, {len(left_out)} left out,",
        f"{len(failed & expected)} failed as expected, {len(failed - expected)} failed,",
        f"{len(expected - failed)} did not fail as expected; {time.monotonic() - began:.0f} s",
    )
    return whole and bool(outcomes) and failed == expected


if __name__ == "__main__":
    sys.exit(main())

"""A process that watches a fleet in etcd, and says when it saw which domain become active or not.

In: the address of an etcd, the name of a fleet. Prints "ready" when the fleet is there and
complete; at a line on standard input it prints one line of JSON: UUID, whether active, and the wall
clock when the reader had the news.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from guestlist.fleet.reading import Fleet
from guestlist.fleet.rows import Relisted, RowChange

Seen = list[tuple[str, bool, float]]


def main(endpoint: str, fleet: str) -> None:
    """Watch until standard input ends."""
    seen: Seen = []
    with Fleet([endpoint], fleet=fleet) as reader, reader.watch() as news:
        first = next(news)
        assert isinstance(first, Relisted)
        assert first.snapshot.complete, first.snapshot
        thread = threading.Thread(target=_follow, args=(news, seen), daemon=True)
        thread.start()
        print("ready", flush=True)
        for _ in sys.stdin:
            print(json.dumps(seen), flush=True)
            seen.clear()


def _follow(news: object, seen: Seen) -> None:
    for each in news:  # type: ignore[attr-defined]
        now = time.time()
        if isinstance(each, RowChange) and each.after is not None:
            active = each.after.instance.active
            if each.before is None or each.before.instance.active != active:
                seen.append((each.row.uuid.hex, active, now))


if __name__ == "__main__":
    main(*sys.argv[1:])

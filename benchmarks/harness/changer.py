"""A process that starts and stops domains at a rate, and writes down when.

In: a URI, changes a second, seconds. Takes all domains there in turn, in an order drawn once, so
that a domain changes again only long after a view has seen its last change. Out: one line of JSON:
for each change the UUID, whether the domain was active after it, and the wall clock before the call
and at its return.
"""

from __future__ import annotations

import json
import random
import sys
import time

import libvirt


def main(uri: str, rate: str, seconds: str) -> None:
    """Make the changes, and print them."""
    libvirt.registerErrorHandler(lambda *_: None, None)
    connection = libvirt.open(uri)
    domains = connection.listAllDomains()
    active = {domain.UUID(): bool(domain.isActive()) for domain in domains}
    random.Random(1).shuffle(domains)
    made = []
    step = 1 / float(rate)
    due = time.monotonic()
    for n in range(round(float(rate) * float(seconds))):
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due + step, time.monotonic())
        domain = domains[n % len(domains)]
        uuid = domain.UUID()
        before = time.time()
        if active[uuid]:
            domain.destroy()
        else:
            domain.create()
        active[uuid] = not active[uuid]
        made.append((uuid.hex(), active[uuid], before, time.time()))
    print(json.dumps(made))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The hosts that the command line names, each followed by a live view.

In: options. Out: followed hosts, which are closed when a signal ends the run.
"""

from __future__ import annotations

import argparse
import logging

from guestlist.cli import ending, hosts
from guestlist.cli.show.progress import Progress
from guestlist.inventory.following import stale
from guestlist.launcher import LaunchedBy
from guestlist.several.following import FollowedHost


def followed(
    options: argparse.Namespace,
    launched_by: LaunchedBy,
    *,
    details: bool,
    log_handler: logging.Handler | None = None,
    progress: Progress | None = None,
) -> list[FollowedHost]:
    """Return the hosts, not yet started. `log_handler` as for `hosts.named`.

    `progress` counts the domains whose details are read.
    """
    named = hosts.named(options, launched_by, log_handler)
    if progress is not None:
        progress.domains_of(named)
    found = [FollowedHost(host, details=details) for host in named]
    for each in found:
        ending.on_end(each.close)
    return found


def mute_stale(*, verbose: bool) -> None:
    """Keep out of the log what the command prints itself: that a view is stale, and why."""
    if not verbose:
        stale.setLevel(logging.ERROR)

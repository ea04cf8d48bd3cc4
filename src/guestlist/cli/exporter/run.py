"""Serve the metrics of a host until a signal comes; or print one scrape.

In: options. Out: answers to Prometheus, and the log on standard error; with `--print` one
exposition on standard output. What cannot work is said in one line, before the first connection is
opened.
"""

from __future__ import annotations

import argparse
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from guestlist import uris
from guestlist.cli import ending, exits, live_hosts
from guestlist.cli.exits import Exit
from guestlist.cli.exporter import DRIVERS, log
from guestlist.cli.show import terminal
from guestlist.errors import GuestlistError
from guestlist.exporter.scrape import HostExporter
from guestlist.exporter.targets import Targets
from guestlist.exporter.web import listening
from guestlist.host import Host
from guestlist.settings_file import BadSettings

if TYPE_CHECKING:
    from guestlist.exporter.web.answers import Scraped, Site

_ENDS_ON = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


def run(options: argparse.Namespace) -> Exit:
    """Serve until a signal ends it; with `--print`, print and end."""
    log.listen(options.log_level, options.log_format)
    exporter = made(options)
    return _print(options, exporter) if options.prints else serve(options, exporter)


def made(options: argparse.Namespace) -> HostExporter:
    """Return the exporter of the host that the options name, not yet started."""
    return _exporter(options, uri_of(options))


def uri_of(options: argparse.Namespace) -> str:
    """Return the URI of the host that the options name."""
    return options.uri or uris.resolved(None) or DRIVERS[0]


def host(options: argparse.Namespace, uri: str) -> Host:
    """Return a host, which asks nothing before it is used."""
    return Host(uri, readonly=True, open_timeout=options.timeout, prompts=False)


def _print(options: argparse.Namespace, exporter: HostExporter) -> Exit:
    ending.on_end(exporter.close)
    live_hosts.mute_stale(verbose=options.log_level == "debug")  # the end says it
    try:
        exporter.start()
        exporter.wait_ready(options.timeout)
        terminal.write(exporter.scrape().decode())
    except GuestlistError as error:
        terminal.complain(str(error))
        return exits.verdict(0, [error])
    finally:
        exporter.close()
    return Exit.OK


def serve(
    options: argparse.Namespace,
    exporter: HostExporter,
    start_beside: Callable[[], object] = lambda: None,
) -> Exit:
    """Serve until a signal ends it; `start_beside` is called once it is sure that it can."""
    from guestlist.exporter.web import server  # noqa: PLC0415  --print needs no aiohttp

    try:
        site = _site(options, exporter)
        sockets = _sockets(options)
    except (BadSettings, listening.CannotListen) as error:
        terminal.complain(str(error))
        return Exit.FAILED
    ending.on_end(exporter.close)
    if site.targets is not None:
        ending.on_end(site.targets.close)
    exporter.start()
    start_beside()
    heeded = [each for each in _ENDS_ON if signal.getsignal(each) is not signal.SIG_IGN]
    number = server.serve(site, sockets, heeded)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise ending.Ended(number, None)


def _site(options: argparse.Namespace, exporter: HostExporter) -> Site:
    """Return what is served.

    Raises:
        BadSettings: the web-config file, or the file of targets, cannot be used.
    """
    from guestlist.exporter.web.answers import Site  # noqa: PLC0415  as above
    from guestlist.exporter.web.config import web_config_file  # noqa: PLC0415  as above

    config = web_config_file(Path(options.web_config_file)) if options.web_config_file else None
    if config is not None:
        config.now()
    targets: Targets[Scraped] | None = None
    if options.probe_targets:
        targets = Targets(Path(options.probe_targets), partial(_started, options))
    return Site(exporter, options.web_telemetry_path, targets, config)


def _sockets(options: argparse.Namespace) -> list[socket.socket]:
    if options.web_systemd_socket:
        return listening.systemd_sockets()
    return listening.sockets(options.addresses)


def _exporter(options: argparse.Namespace, uri: str) -> HostExporter:
    """Return the exporter of a host, not yet started."""
    return HostExporter(
        host(options, uri),
        collectors=options.collectors,
        compat=options.compat,
        interval=options.collector_interval,
        nova_labels=options.nova_labels,
    )


def _started(options: argparse.Namespace, uri: str) -> HostExporter:
    """Return the exporter of a target, started."""
    exporter = _exporter(options, uri)
    exporter.start()
    return exporter

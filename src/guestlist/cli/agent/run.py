"""Publish a host until a signal comes; with --exporter, serve its metrics as well.

In: options. Out: the host's keys in etcd, and the log on standard error. What cannot work is said
in one line, before the first connection is opened.
"""

from __future__ import annotations

import argparse
import os
import signal

from guestlist.cli import ending, etcd_options
from guestlist.cli.exits import Exit
from guestlist.cli.exporter import log
from guestlist.cli.exporter import run as exporter_run
from guestlist.cli.show import terminal
from guestlist.exporter.scrape import HostExporter
from guestlist.fleet.agent import Agent, HostKeys
from guestlist.fleet.etcd.connection import Etcd
from guestlist.inventory import Inventory


def run(options: argparse.Namespace) -> Exit:
    """Publish until a signal ends it."""
    log.listen(options.log_level, options.log_format)
    exporter = exporter_run.made(options) if options.exports else None
    live = exporter.live if exporter is not None else _live(options)
    try:
        keys = HostKeys(options.fleet, options.host)
        agent = Agent(live, _etcd(options), keys, ttl=options.ttl)
    except (ValueError, OSError) as error:
        terminal.complain(str(error))
        return Exit.FAILED
    ending.on_end(agent.close)
    if exporter is not None:
        return _serve(options, exporter, agent)
    ending.on_end(live.close)
    agent.start()
    agent.wait_ended()
    return Exit.FAILED


def _live(options: argparse.Namespace) -> Inventory:
    return Inventory(exporter_run.host(options, exporter_run.uri_of(options)))


def _etcd(options: argparse.Namespace) -> Etcd:
    tls, login = etcd_options.tls(options), etcd_options.login(options)
    return Etcd(etcd_options.members(options), tls=tls, login=login)


def _serve(options: argparse.Namespace, exporter: HostExporter, agent: Agent) -> Exit:
    """Serve beside the agent. An agent that fails ends the process; systemd starts it again."""
    agent.on_failure = lambda: os.kill(os.getpid(), signal.SIGTERM)
    return exporter_run.serve(options, exporter, agent.start)

"""`guestlist agent`: its options. `run` publishes the host until a signal ends it.

The options of the host, of the log and, with --exporter, of the exporter are those of `guestlist
exporter`; so one unit can be both.
"""

from __future__ import annotations

import argparse
import socket

from guestlist.cli import etcd_options, exporter
from guestlist.cli import options as common

ABOUT = "publish the domains of this host in etcd, for 'guestlist fleet'"

EXAMPLES = f"""\
examples:
  guestlist agent --endpoints etcd1:2379,etcd2:2379,etcd3:2379 \\
      --cacert ca.pem --cert node7.pem --key node7.key
      publish this host; its name is the host name, as in Nova
  guestlist agent --endpoints 127.0.0.1:2379 --fleet lab --host node7
      an etcd without TLS, for a trial
  guestlist agent --exporter --web.listen-address=:9177
      the same, and the metrics of this host: one process, one live view

The connection to libvirt is read-only. The agent needs rights to the keys of its own host only:
'guestlist fleet setup' makes them. A second agent for the same host waits for the end of the first.

{etcd_options.NOTE}"""

_WITH_EXPORTER = ("web_listen_address", "web_systemd_socket", "web_config_file", "probe_targets")


def add_options(agent: argparse.ArgumentParser) -> None:
    """Add the options of `agent`."""
    fleet = etcd_options.add_etcd(agent)
    fleet.add_argument(
        "--host",
        metavar="NAME",
        help="the name of this host in the fleet; Nova's name of it (default: this machine's host "
        "name)",
    )
    fleet.add_argument(
        "--ttl",
        metavar="SECONDS",
        type=_whole_seconds,
        default=30,
        help="after how many seconds a host whose agent has died counts as unknown (default: "
        "%(default)d)",
    )
    exporter.add_host(agent.add_argument_group("which host"))
    agent.add_argument(
        "--exporter",
        dest="exports",
        action="store_true",
        help="be 'guestlist exporter' as well",
    )
    exporter.add_web(agent.add_argument_group("with --exporter: how to serve"))
    exporter.add_collectors(
        agent.add_argument_group(
            "with --exporter: what to collect (--no-collector.NAME switches one off)"
        )
    )
    exporter.add_log(agent.add_argument_group("the log, on standard error"))


def check_options(options: argparse.Namespace, agent: argparse.ArgumentParser) -> None:
    """Refuse options that exclude each other; set what the exporter's check sets."""
    exporter.check_options(options, agent)
    etcd_options.fill_in(options)
    if options.host is None:
        options.host = socket.gethostname()
    etcd_options.check(options, agent)
    for name in () if options.exports else _WITH_EXPORTER:
        if getattr(options, name):
            agent.error(f"--{name.replace('_', '.', 1).replace('_', '-')} goes with --exporter")


def _whole_seconds(text: str) -> int:
    found = common.seconds(text)
    if found != int(found) or found < 2:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of seconds from 2 on")
    return int(found)

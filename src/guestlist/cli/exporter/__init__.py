"""`guestlist exporter`: its options. `run` serves, or prints once; `log` writes the log.

The options are those of the exporters that it takes the place of (inovex's, Tinkoff's, kumina's),
and those of exporter-toolkit. `--flag=value` and `--flag value` are the same.
"""

from __future__ import annotations

import argparse
import re
from urllib.parse import quote

import guestlist
from guestlist.cli import options as common
from guestlist.exporter.collectors import COLLECTORS
from guestlist.exporter.web.listening import Address, address

ABOUT = "serve what happens on the host as metrics, for Prometheus"

EXAMPLES = """\
examples:
  guestlist exporter
      metrics of this host on http://127.0.0.1:9177/metrics
  guestlist exporter --web.listen-address=:9177 --web.config.file=web.yml
      on all interfaces, with TLS and users as web.yml says (exporter-toolkit's file)
  guestlist exporter --libvirt.uri=/run/libvirt/libvirt-sock-ro
      over libvirt's read-only socket
  guestlist exporter --no-collector.vcpu --collector.pool
      without the metrics of each vCPU, with those of storage pools
  guestlist exporter --probe.targets=hosts.yml
      also http://127.0.0.1:9177/probe?target=node1 for each name in hosts.yml
  guestlist exporter --print > libvirt.new && mv libvirt.new libvirt.prom
      one scrape, for node_exporter's textfile collector

Connections are read-only. A target of /probe is a name from the file, never a URI.
hosts.yml has lines such as 'node1: qemu+tls://node1/system'.
"""

DRIVERS = ("qemu:///system", "qemu:///session", "xen:///system", "test:///default")
PORT = 9177

_is_plain_path = re.compile(r"/[A-Za-z0-9/._~-]*").fullmatch

_LEVELS = ("debug", "info", "warn", "error")


def add_options(exporter: argparse.ArgumentParser) -> None:
    """Add the options of `exporter`."""
    exporter.add_argument(
        "--version", action="version", version=f"guestlist {guestlist.__version__}"
    )
    exporter.add_argument(
        "--print",
        dest="prints",
        action="store_true",
        help="write one scrape to standard output instead of serving",
    )
    add_host(
        exporter.add_argument_group("which host"),
        "how long a connection may take to open, and --print to be ready",
    )
    add_web(exporter.add_argument_group("how to serve"))
    add_collectors(
        exporter.add_argument_group("what to collect (--no-collector.NAME switches one off)")
    )
    add_log(exporter.add_argument_group("the log, on standard error"))


def add_log(log: argparse._ActionsContainer) -> None:
    """Add the options of the log."""
    log.add_argument("--log.level", dest="log_level", choices=_LEVELS, default="info")
    log.add_argument(
        "-v",
        "--verbose",
        dest="log_level",
        action="store_const",
        const="debug",
        help="the same as --log.level=debug: libvirt's own messages and tracebacks as well",
    )
    log.add_argument(
        "--log.format", dest="log_format", choices=("logfmt", "json"), default="logfmt"
    )


def check_options(options: argparse.Namespace, exporter: argparse.ArgumentParser) -> None:
    """Refuse options that exclude each other; set `uri`, `collectors`, `addresses`."""
    if options.connect is not None and options.libvirt_uri is not None:
        exporter.error("-c and --libvirt.uri are the same; give one")
    if options.web_systemd_socket and options.web_listen_address:
        exporter.error("--web.systemd-socket takes the place of --web.listen-address; give one")
    if not options.web_telemetry_path.startswith("/"):
        exporter.error("--web.telemetry-path must begin with /")
    if not _is_plain_path(options.web_telemetry_path):
        exporter.error("--web.telemetry-path: only letters, digits and /._~- can be asked for")
    if options.web_telemetry_path in ("/-/healthy", "/-/ready", "/probe"):
        exporter.error(f"--web.telemetry-path: {options.web_telemetry_path} is another page")
    options.uri = _uri_of(options)
    options.collectors = frozenset(
        name
        for name, collector in COLLECTORS.items()
        if _is_on(getattr(options, f"collector_{name}"), default=collector.is_default)
    )
    options.addresses = options.web_listen_address or [Address("127.0.0.1", PORT)]


def add_host(
    host: argparse._ActionsContainer, patience: str = "how long a connection may take to open"
) -> None:
    """Add the options that say which host, and how to connect. `patience` is on --timeout."""
    host.add_argument(
        "-c",
        "--connect",
        metavar="URI",
        type=common.uri,
        help="the host, by libvirt URI or by its alias in the configuration file. Default: "
        "--libvirt.driver if given, else libvirt's own "
        "(LIBVIRT_DEFAULT_URI, then libvirt.conf), else qemu:///system",
    )
    host.add_argument(
        "--libvirt.uri",
        dest="libvirt_uri",
        metavar="URI|SOCKET",
        type=common.uri,
        help="the same, or the path of libvirt's socket",
    )
    host.add_argument(
        "--libvirt.driver",
        dest="libvirt_driver",
        choices=DRIVERS,
        help="the hypervisor driver behind that socket (default: qemu:///system); without a URI, "
        "the host",
    )
    host.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=common.seconds,
        default=10.0,
        help=f"{patience} (default: %(default)g)",
    )


def add_web(web: argparse._ActionsContainer) -> None:
    """Add the options that say how to serve."""
    web.add_argument(
        "--web.listen-address",
        dest="web_listen_address",
        metavar="ADDRESS",
        type=_address,
        action="append",
        help=f"where to listen: HOST:PORT, or :PORT for all interfaces; may be repeated. Port 0: a "
        f"free one, which the log names. Default: 127.0.0.1:{PORT}",
    )
    web.add_argument(
        "--web.systemd-socket",
        dest="web_systemd_socket",
        action="store_true",
        help="listen on the sockets that systemd passes",
    )
    web.add_argument(
        "--web.telemetry-path",
        dest="web_telemetry_path",
        metavar="PATH",
        default="/metrics",
        help="the path of the metrics (default: %(default)s)",
    )
    web.add_argument(
        "--web.config.file",
        dest="web_config_file",
        metavar="FILE",
        help="TLS, users and more: exporter-toolkit's file; it is read again when it changes",
    )
    web.add_argument(
        "--probe.targets",
        dest="probe_targets",
        metavar="FILE",
        help="the hosts of /probe: names and URIs in YAML; it is read again when it changes",
    )


def add_collectors(what: argparse._ActionsContainer) -> None:
    """Add the options that say what to collect."""
    for name, collector in COLLECTORS.items():
        word = "on" if collector.is_default else "off"
        for prefix, value in (("", True), ("no-", False)):
            what.add_argument(
                f"--{prefix}collector.{name}",
                dest=f"collector_{name}",
                action="store_const",
                const=value,
                help=f"{collector.about} (default: {word})" if value else argparse.SUPPRESS,
            )
    what.add_argument(
        "--collector.interval",
        dest="collector_interval",
        metavar="SECONDS",
        type=common.seconds,
        default=15.0,
        help="how often the guests themselves are asked (default: %(default)g)",
    )
    what.add_argument(
        "--compat",
        choices=("tinkoff", "kumina"),
        help="also the names, and the labels, of that exporter",
    )
    what.add_argument(
        "--libvirt.export-nova-metadata",
        dest="nova_labels",
        action="store_true",
        help="with --compat kumina: Nova's name, flavor and project as labels",
    )


def _is_on(given: bool | None, *, default: bool) -> bool:
    return default if given is None else given


def _address(text: str) -> Address:
    try:
        return address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _uri_of(options: argparse.Namespace) -> str | None:
    """Return the URI of the host; None: libvirt's default, or the driver's without one."""
    given: str | None = options.connect or options.libvirt_uri
    if given is not None and given.startswith("/"):
        scheme, _, rest = (options.libvirt_driver or DRIVERS[0]).partition(":")
        return f"{scheme}+unix:{rest}?socket={quote(given)}"
    return given or options.libvirt_driver

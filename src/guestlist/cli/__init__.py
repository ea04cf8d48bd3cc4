"""The command `guestlist`: words in, data on standard output, everything else on standard error.

In: the command line. Out: an exit status, of which each kind of failure has its own (`exits`), and
one line per failure that says what was asked, which host was asked and what to do. A command's
`run` is imported when the command is called, and libvirt with those that ask a host: --help,
--version and `completion` do without. `hosts` alone names libvirt, to keep its messages off
standard error.

    arguments    the command line and its parser      options   options of several commands
    ls, usage, watch, fleet, exporter, agent, audit, check, completion
                                                      a package for each command: its options in
                                                      `__init__`, what it does in `run`
    show_domains the package of the command `show`
    show         what can be shown, in which format, and the terminal
    configuration, configuration_file, settings
                 aliases of hosts and values of options, from a file, and what it may say
    filters      domains by name, state, launcher and project
    hosts        the hosts that the options name
    live_hosts   the same hosts, as live views        hidden    what the filters hide
    etcd_options the etcd that the options name, as etcdctl's do
    since        the times that people give           exits     the exit statuses
    waiting_changes                                   changes that a filter cannot judge yet
    ending       what is closed before the end

Below, `guestlist.several` asks and follows many hosts at once.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from guestlist.cli import arguments, ending
from guestlist.cli.exits import Exit
from guestlist.cli.show import terminal

_LIBVIRTS_LOG = "LIBVIRT_DEBUG", "LIBVIRT_LOG_FILTERS", "LIBVIRT_LOG_OUTPUTS"


_OBJECTS_BETWEEN_COLLECTIONS = 20_000
"""Python looks for garbage after 700 new objects, and finds none while modules are imported."""


_EXIT_FUNCTIONS_OF_PYTHON = 1
"""Functions that the modules imported above have given to `atexit`: logging's, which has nothing to
do here."""

_BROUGHT_BY = {
    "aiohttp": "exporter",
    "argcomplete": "cli",
    "bcrypt": "exporter",
    "google": "fleet",
    "grpc": "fleet",
    "keystoneauth1": "openstack",
    "msgspec": "fleet",
    "openstack": "openstack",
    "yaml": "cli",
}
"""The extra of the wheel that brings an optional package."""

_IN_DEBIAN = {
    "cli": "python3-argcomplete python3-yaml",
    "exporter": "python3-aiohttp python3-bcrypt",
    "fleet": "python3-grpcio python3-msgspec python3-protobuf",
    "openstack": "python3-openstacksdk",
}
"""The Debian packages that stand for an extra."""


def command() -> NoReturn:
    """Run the command as this process, and end the process with its exit status.

    At the end connections are closed as always; then the process ends at once. Python would first
    take its modules apart, which is a tenth of the time of a short `guestlist ls`. It does so if
    another program (a `sitecustomize`, a tool that measures coverage) has an exit function, which
    must be called.
    """
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    statuses: list[int] = []
    if atexit._ncallbacks() <= _EXIT_FUNCTIONS_OF_PYTHON:
        atexit.register(_leave, statuses)  # the first to be registered is called last
    statuses.append(main())
    raise SystemExit(statuses[0])


def _leave(statuses: list[int]) -> None:
    if statuses:  # `terminal` has written all output to the descriptors themselves
        os._exit(statuses[0])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status.

    Args:
        argv: the words after the command's name. None: those this process was started with.

    Raises:
        SystemExit: after --help and --version (0), and on a word that has no meaning (2).

    On Ctrl-C, SIGTERM and SIGHUP, and when the reader of a pipe has left, closes what is open
    (`ending`) and ends the process as the signal would. Until the command is loaded nothing is
    open, and SIGTERM and SIGHUP end the process by themselves: an exception inside the import of a
    package written in C may crash it.
    """
    try:
        terminal.hold_descriptors()
        return _run(argv)
    except KeyboardInterrupt:
        _die_of(signal.SIGINT)
    except ending.Ended as ended:
        _die_of(ended.signal)
    except BrokenPipeError:
        _die_of(signal.SIGPIPE)
    except terminal.Unwritable as error:
        terminal.complain(str(error))
    except ImportError as error:
        terminal.complain(_missing(error))
    except Exception as error:
        terminal.complain_of_surprise("guestlist", error)
    ending.close_all()
    return Exit.FAILED


def _run(argv: Sequence[str] | None) -> Exit:
    if "_ARGCOMPLETE" in os.environ:
        with ending.heeding_signals():
            _complete()
    options = arguments.parse(argv)
    if not getattr(options, "verbose", False):
        _silence_libvirt()
    command = import_module(f"{arguments.package(options.command)}.run")
    with ending.heeding_signals():
        status: Exit = command.run(options)
        ending.end_programs()  # of hosts that did not answer in time
    return status


def _complete() -> NoReturn:
    """Tell the shell that asks what may follow on its line, and end the process."""
    from guestlist.cli.completion import answers  # noqa: PLC0415  only for a shell that asks

    _silence_libvirt()
    answers.answer(arguments.parser(os.environ.get("COMP_LINE", "")))


def _silence_libvirt() -> None:
    """Keep the lines of libvirt's own log off standard error, unless the user has set up that log.

    libvirt reads these variables once, when it is loaded.
    """
    if "libvirt" not in sys.modules and not any(name in os.environ for name in _LIBVIRTS_LOG):
        os.environ["LIBVIRT_LOG_OUTPUTS"] = f"4:file:{os.devnull}"


def _die_of(number: signal.Signals) -> NoReturn:
    ending.close_all()
    terminal.die_of(number)


def _missing(error: ImportError) -> str:
    name = (error.name or "").partition(".")[0]
    if name in {"libvirt", "libvirtmod"}:
        remedy = "install python3-libvirt (Debian, Fedora) or run: pip install libvirt-python"
        return f"cannot load libvirt's Python binding: {error}; {remedy}"
    if name in _BROUGHT_BY:
        extra = _BROUGHT_BY[name]
        remedy = f"install {_IN_DEBIAN[extra]} (Debian) or run: pip install 'guestlist[{extra}]'"
        return f"cannot load {name}: {error}; {remedy}"
    return f"cannot load {name or 'a package'}: {error}; run: pip install guestlist"

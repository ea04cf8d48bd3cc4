"""A released nova-compute: the service that an operator starts, with its periodic tasks.

In: what `NovaDriver` takes. Out: the running service: how often each periodic task has run, the
errors in its log, and its driver, which answers as a `NovaDriver` does. It runs nova-compute's own
`main`, with a conductor in the same process (`in_nova/serve.py`), sqlite, oslo.messaging's
in-process transport, and a placement service (`lab.placement`). There is no Neutron, Cinder or
Glance; the one periodic task that needs them, about the networks of instances, is off.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from typing import Self

from lab.nodes import Domain
from lab.nova import Mode, NovaProcess
from lab.placement import Placement
from lab.waiting import wait_until

TASKS = ("update_available_resource", "_sync_power_states", "_poll_volume_usage")
"""The periodic tasks that ask libvirt; here they run every second."""

ROUNDS_SECONDS = 60.0
_RUNNING, _SHUTDOWN = 1, 4

# oslo.log puts each line of a traceback behind a prefix of its own, without the bracketed context.
_COMPLAINT = re.compile(r"^\S+ \S+ \d+ (?:ERROR|CRITICAL) \S+ (?:\[|Traceback).*", re.M)


class NovaService(NovaProcess):
    """A running nova-compute; a context manager.

    Its host is one that Nova knows: nova-compute starts although guests run there. Instances are
    added while it runs.

    With Nova 34's own driver, in threading mode, nova-compute can deadlock when libvirtd dies
    during a call. `Host._get_connection` tests the connection by a call with its lock held. libvirt
    runs the close callback in that thread, and the callback takes the lock again. In eventlet mode
    callbacks are queued.

    Raises:
        RuntimeError: there is no such environment, or the service ended by itself.
        NovaError: the service did not start; its log is in the notes.

    Cost: 4 to 8 seconds and 200 MB.
    """

    script = "serve.py"

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.placement = stack.enter_context(Placement())
            super().__enter__()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        with self._stack:
            super().__exit__(*error)

    def rounds(self, task: str) -> int:
        """Return how often a periodic task has run to its end."""
        return max(0, self.log().count(f"Running periodic task ComputeManager.{task} ") - 1)

    def wait_rounds(self, more: int = 2, *tasks: str) -> None:
        """Return when each of these tasks (by default `TASKS`) has begun and ended `more` times.

        Raises:
            TimeoutError: a task has not, within `ROUNDS_SECONDS`.
        """
        goals = {task: self.rounds(task) + 1 + more for task in tasks or TASKS}
        wait_until(
            lambda: all(self.rounds(task) >= goal for task, goal in goals.items()), ROUNDS_SECONDS
        )

    def complaints(self) -> list[str]:
        """Return each line of the log that is an error, or begins a traceback."""
        return _COMPLAINT.findall(self.log())

    def hang_up(self) -> None:
        """Send SIGHUP, at which nova-compute reads its configuration again in eventlet mode.

        In threading mode Nova 34 does not: the handler ends nova-compute's main thread, the other
        threads go on, and the next SIGTERM ends the process at once (oslo.service: "need to
        implement the restart() method for no_fork case").
        """
        self._signal(signal.SIGHUP)

    def terminate(self) -> int:
        """Send SIGTERM, wait for the end, and return the exit code."""
        self._signal(signal.SIGTERM)
        assert isinstance(self._process, subprocess.Popen)
        return self._process.wait(ROUNDS_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the main thread, where Python runs handlers, not to the process.

        Another thread may receive a signal to the process while it is within libvirt: libvirt's
        client sets the thread's signal mask around each call, and so takes a pending signal. On
        native threads the main thread then waits until the next signal, with Nova's own driver
        too.
        """
        pid = self._process.pid
        if ctypes.CDLL(None, use_errno=True).tgkill(pid, pid, number):
            raise OSError(ctypes.get_errno(), "tgkill")

    def _options(self) -> dict[str, dict[str, object]]:
        options = super()._options()
        options["DEFAULT"] |= {
            # Rounds are counted in the log. stevedore would report plugins that are not installed.
            "default_log_levels": "oslo_service.periodic_task=DEBUG,stevedore=CRITICAL",
            "periodic_fuzzy_delay": 0,
            "update_resources_interval": 1,
            "sync_power_state_interval": 1,
            "volume_usage_poll_interval": 1,
            "heal_instance_info_cache_interval": -1,
            "manager_shutdown_timeout": 0,
        }
        options["placement"] = {"auth_type": "none", "endpoint_override": self.placement.url}
        return options


@contextlib.contextmanager
def serving(
    uri: str,
    domains: Sequence[Domain],
    mode: Mode = "threading",
    compute_driver: str = "libvirt.LibvirtDriver",
) -> Iterator[NovaService]:
    """Run a nova-compute that knows these instances, and has run each task once."""
    with NovaService(uri, mode=mode, compute_driver=compute_driver) as nova:
        for domain in domains:
            nova.add_instance(
                domain.uuid,
                domain.name,
                volumes={"/dev/vdb": domain.uuid},
                power_state=_RUNNING if domain.active else _SHUTDOWN,
                vm_state="active" if domain.active else "stopped",
            )
        nova.wait_rounds(1)
        yield nova

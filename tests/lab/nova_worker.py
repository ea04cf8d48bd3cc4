"""A released Nova's libvirt driver in a process of its own, asked over a socket; see `lab.nova`.

Run by the Python of an environment with Nova: nova_worker.py CONF FD. It starts as nova-compute does:
the concurrency mode first, then the configuration, the database, the driver by Nova's own loader,
and `init_host`. Every request is served on a thread of Nova's kind, real or green.
"""

from __future__ import annotations

import os
import sys

# Nova decides on green threads before anything else is imported.
os.environ.setdefault("OS_NOVA_DISABLE_EVENTLET_PATCHING", "yes")
import nova.monkey_patch

if hasattr(nova.monkey_patch, "patch"):
    nova.monkey_patch.patch()

import faulthandler
import json
import logging
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import nova.conf
from nova.db import migration
from nova.db.main import api as database
from nova.virt.libvirt import host as libvirt_host
from nova.virt.libvirt.volume import mount

from nova import config, objects
from nova import context as nova_context
from nova.virt import driver as virt_driver
from nova.virt import virtapi

CONF = nova.conf.CONF
TICK = 0.01


class Records(logging.Handler):
    """What was logged, since it was last taken."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[list[str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({record.exc_info[1]!r})"
        self.records.append([record.levelname, record.name, text])

    def take(self) -> list[list[str]]:
        taken, self.records = self.records, []
        return taken


class Ticker:
    """The longest time for which threads of Nova's kind did not get their turn."""

    def __init__(self) -> None:
        self.longest = 0.0
        threading.Thread(target=self._tick, daemon=True).start()

    def take(self) -> float:
        longest, self.longest = self.longest, 0.0
        return longest

    def _tick(self) -> None:
        while True:
            began = time.monotonic()
            time.sleep(TICK)
            self.longest = max(self.longest, time.monotonic() - began - TICK)


class Worker:
    """Serves requests."""

    def __init__(self, conf: Path) -> None:
        self.conf = conf
        self.programs = 0
        self.log = Records()
        logging.getLogger().addHandler(self.log)
        logging.getLogger().setLevel(logging.INFO)
        sys.addaudithook(self._count_programs)
        config.parse_args(["nova-compute", "--config-file", str(conf)])
        objects.register_all()
        for options in (nova.conf.neutron, nova.conf.devices):  # as the compute manager does
            options.register_dynamic_opts(CONF)
        migration.db_sync(database="main")
        self.context = nova_context.get_admin_context()
        self.instances: dict[str, Any] = {}
        self.driver = virt_driver.load_compute_driver(virtapi.VirtAPI())
        self.ticker = Ticker()

    def _count_programs(self, event: str, _arguments: object) -> None:
        if event == "subprocess.Popen":
            self.programs += 1

    # Requests

    def init_host(self) -> None:
        """As nova-compute. The test driver's version is none of QEMU's, which Nova insists upon."""
        if CONF.libvirt.connection_uri.startswith("test"):
            libvirt_host.Host.has_min_version = lambda *_, **__: True
        self.driver.init_host(CONF.host)

    def call(self, method: str, *arguments: Any) -> Any:
        return plain(self._found(method)(*map(self._meant, arguments)))

    def see(self, name: str) -> Any:
        return plain(self._found(name))

    def each(self, method: str, uuids: list[str], *arguments: Any) -> Any:
        """The same of many instances, one after the other."""
        return [self.call(method, {"uuid": uuid}, *arguments) for uuid in uuids]

    def add_instance(self, uuid: str, volumes: list[str], **values: Any) -> None:
        """A row in Nova's database, and one for each volume; harmless twice."""
        values = {"host": CONF.host, "launched_on": CONF.host, "task_state": None, **values}
        if uuid in self.instances:
            database.instance_update(self.context, uuid, values)
            volumes = []
        else:
            database.instance_create(self.context, {"uuid": uuid, **values})
        for n, target in enumerate(volumes):
            database.block_device_mapping_create(
                self.context,
                {
                    "instance_uuid": uuid,
                    "device_name": f"/dev/{target}",
                    "source_type": "volume",
                    "destination_type": "volume",
                    "volume_id": f"{uuid}-{n}",
                    "connection_info": "{}",
                },
                legacy=False,
            )
        self.instances[uuid] = objects.Instance.get_by_uuid(self.context, uuid)

    def alter_instance(self, uuid: str, **values: Any) -> None:
        for name, value in values.items():
            setattr(self.instances[uuid], name, value)

    def mounts(self) -> Any:
        points = mount._HostMountState(self.driver._host, 0).mountpoints
        return {path: plain(point.attachments) for path, point in points.items()}

    def volume_usage(self, volumes: list[tuple[str, str]]) -> Any:
        asked: dict[str, list[dict[str, str]]] = {}
        for uuid, target in volumes:
            bdm = {"device_name": f"/dev/{target}", "volume_id": f"{uuid}-{target}"}
            asked.setdefault(uuid, []).append(bdm)
        return self.call(
            "get_all_volume_usage",
            None,
            [{"instance": {"uuid": uuid}, "instance_bdms": bdms} for uuid, bdms in asked.items()],
        )

    def reload(self, conf: str) -> None:
        """What SIGHUP does to the options."""
        self.conf.write_text(conf)
        CONF.mutate_config_files()

    def longest_gap(self) -> float:
        return self.ticker.take()

    def census(self) -> dict[str, int]:
        tasks = Path("/proc/self/task")
        return {
            "threads": len(list(tasks.iterdir())),
            "files": len(list(Path("/proc/self/fd").iterdir())),
        }

    def _found(self, path: str) -> Any:
        found: Any = self.driver
        for name in path.split("."):
            found = getattr(found, name)
        return found

    def _meant(self, argument: Any) -> Any:
        """Instances are named by their UUIDs."""
        if isinstance(argument, list):
            return [self._meant(each) for each in argument]
        if not isinstance(argument, dict):
            return argument
        if set(argument) == {"uuid"}:
            uuid = argument["uuid"]
            return self.instances.get(uuid) or objects.Instance(uuid=uuid, id=1)
        return {name: self._meant(value) for name, value in argument.items()}


def plain(value: Any) -> Any:
    """A value that JSON has."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(plain, value))
    if value is None or isinstance(value, (str, int, float)):
        return value
    if hasattr(value, "internal_id"):
        return {"state": value.state, "id": value.internal_id}
    if hasattr(value, "launcher"):
        return {"state": int(value.state), "id": value.id}
    return str(getattr(value, "uuid", value))


def serve(worker: Worker, asked: socket.socket) -> None:
    turn = threading.Lock()

    def answer(request: dict[str, Any]) -> None:
        reply: dict[str, Any] = {"id": request["id"]}
        before, began = worker.programs, time.monotonic()
        try:
            method = getattr(worker, request["what"])
            reply["answer"] = method(*request["arguments"], **request["options"])
        except BaseException as error:
            reply["error"] = [type(error).__name__, str(error)]
            logging.getLogger(__name__).debug("failed", exc_info=True)
        reply["seconds"] = time.monotonic() - began
        reply["programs"] = worker.programs - before
        reply["log"] = worker.log.take()
        with turn:
            asked.sendall(json.dumps(reply).encode() + b"\n")

    rest = b""
    while data := asked.recv(1 << 20):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            threading.Thread(target=answer, args=(json.loads(line),), daemon=True).start()


def main() -> None:
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    asked = socket.socket(fileno=int(sys.argv[2]))
    serve(Worker(Path(sys.argv[1])), asked)
    os._exit(0)  # Nova's threads do not end


if __name__ == "__main__":
    main()

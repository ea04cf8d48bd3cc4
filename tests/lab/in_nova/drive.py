"""A compute driver that answers requests (`desk`). It is loaded and started as nova-compute does.

In: `--config-file`, and requests. Out: answers, and nothing on standard output.
"""

import ground

# isort: split
import collections
import dataclasses
import importlib
import os
import time
from uuid import UUID

import libvirt
import nova.conf
import rows
from desk import Desk, Requests, Timed
from ground import CONF
from nova import context, objects
from nova.objects import base
from nova.virt import driver as virt_driver
from nova.virt import virtapi

DEEP = 8
"""Levels of an object that are turned into JSON."""

LONG = 60.0
"""Seconds that a request waits for libvirt or its event loop."""


class Driver(Requests):
    """A driver, and the requests about it."""

    def __init__(self, load):
        super().__init__()
        self.driver = load()

    def call(self, name, args, kwargs):
        """Call a method of the driver by its (dotted) name, or anything else by "module:name"."""
        args = [self._argument(arg) for arg in args]
        kwargs = {key: self._argument(arg) for key, arg in kwargs.items()}
        method = self._named(name)
        begun = time.monotonic()
        value = method(*args, **kwargs)
        return Timed(time.monotonic() - begun, plain(value))

    def see(self, name):
        """Return an attribute of the driver, or of a module, by its name as in `call`."""
        return plain(self._named(name))

    def _named(self, name):
        module, colon, name = name.rpartition(":")
        target = importlib.import_module(module) if colon else self.driver
        for part in name.split("."):
            target = getattr(target, part)
        return target

    def add_instance(self, **columns):
        rows.add_instance(**columns)

    def _argument(self, value):
        """Return the object that a value stands for, where the object has no JSON."""
        match value:
            case {"$": "context"}:
                return context.get_admin_context()
            case {"$": "host"}:
                return self.driver._host
            case {"$": "instance", "uuid": uuid}:
                return objects.Instance.get_by_uuid(context.get_admin_context(), uuid)
            case {"$": "volumes"}:
                return volumes_of_host()
        return value


class OwnDriver(Driver):
    """A driver without a compute manager."""

    def __init__(self):
        super().__init__(lambda: virt_driver.load_compute_driver(virtapi.VirtAPI()))
        self._events = collections.deque(maxlen=10_000)
        for late in (nova.conf.neutron, nova.conf.devices):  # as `ComputeManager.init_host` does
            late.register_dynamic_opts(CONF)
        self.driver.init_host(host=CONF.host)
        self.driver.register_event_listener(self._events.append)

    def events(self):
        """Return the lifecycle events that the driver passed on, oldest first: UUID, transition."""
        return [[event.uuid, event.get_name()] for event in list(self._events)]

    def reload(self):
        """Read the configuration again, as nova-compute does at SIGHUP. Returns what changed."""
        changed = CONF.mutate_config_files()
        return sorted(f"{group or 'DEFAULT'}.{option}" for group, option in changed)

    def catch_up(self):
        """Take in all that has happened at libvirt; return whether that is done.

        In a real thread: Nova's handler of events may have to wait for this green one.
        """
        host = self.driver._gate._host

        def take_in():
            host._live.resync(LONG)
            host.listed(only_running=False)  # its connection's events come before the reply
            return self._named("guestlist.event_loop:drain")(LONG)

        return self._named("guestlist.nova.green_threads:aside")(take_in)

    def viewed(self, uuid):
        """Return the state in the live view; None while the view disputes it."""
        live = self.driver._gate._host._live
        known = live.undisputed(UUID(uuid)) if live else None
        return known and int(known.state)

    def stop_events(self):
        """Stop libvirt's event loop in a callback; return when it has stopped."""
        threading = self._named("guestlist.unpatched:threading")
        holding, self._let_go = threading.Event(), threading.Event()

        def hold(timer, _):
            libvirt.virEventRemoveTimeout(timer)
            holding.set()
            self._let_go.wait()

        libvirt.virEventAddTimeout(0, hold, None)
        self._named("guestlist.nova.green_threads:aside")(holding.wait)

    def let_events_go(self):
        """Let the event loop go on."""
        self._let_go.set()

    def stop(self):
        """Stop the driver, as nova-compute does when it ends."""
        self.driver.cleanup_host(CONF.host)


def volumes_of_host():
    """Return the instances with their volumes, as `ComputeManager._get_host_volume_bdms` does."""
    admin = context.get_admin_context()
    return [
        {
            "instance": instance,
            "instance_bdms": [
                bdm
                for bdm in objects.BlockDeviceMappingList.get_by_instance_uuid(admin, instance.uuid)
                if bdm.is_volume
            ],
        }
        for instance in objects.InstanceList.get_by_host(admin, CONF.host)
    ]


def plain(value, depth=0):  # noqa: PLR0911
    """Return a value as JSON can hold it: an instance's UUID, an object's public attributes."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case objects.Instance():
            return value.uuid
        case base.NovaObject():
            return value.obj_to_primitive()
        case _ if depth > DEEP:
            return repr(value)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = dataclasses.fields(value)
            return {one.name: plain(getattr(value, one.name), depth + 1) for one in fields}
        case collections.abc.Mapping():
            return {str(key): plain(item, depth + 1) for key, item in value.items()}
        case set() | frozenset():
            return sorted((plain(item, depth + 1) for item in value), key=str)
        case list() | tuple() | collections.abc.Iterator() | collections.abc.KeysView():
            return [plain(item, depth + 1) for item in value]
        case object(__dict__=attributes) if not isinstance(value, type):
            return {
                name: plain(item, depth + 1)
                for name, item in attributes.items()
                if not name.startswith("_")
            }
    return repr(value)


def main():
    """Serve until the other end of the socket is closed. Does not return."""
    ground.lend_what_is_missing()
    Desk().serve(OwnDriver, set_up=ground.set_up)
    os._exit(0)  # without waiting for threads of libvirt's and of Nova's executors


if __name__ == "__main__":
    main()

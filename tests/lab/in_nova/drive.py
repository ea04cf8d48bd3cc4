"""A compute driver, loaded and started as nova-compute does, that answers requests (`desk`).

In: `--config-file`, and requests. Out: answers, and nothing on standard output.
"""

import ground

# isort: split
import collections
import dataclasses
import importlib
import os
import time

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
LONG = 60.0


class Driver(Requests):
    """A driver, and what nova-compute has beside it."""

    def __init__(self, load):
        super().__init__()
        self.driver = load()

    def call(self, name, args, kwargs):
        """A method of the driver by its (dotted) name; or, as "module:name", anything else."""
        args = [self._argument(arg) for arg in args]
        kwargs = {key: self._argument(arg) for key, arg in kwargs.items()}
        method = self._named(name)
        begun = time.monotonic()
        value = method(*args, **kwargs)
        return Timed(time.monotonic() - begun, plain(value))

    def see(self, name):
        """What the driver has, or a module, by its name as in `call`."""
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
        """The real thing, where a value stands for what has no JSON."""
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
    """A driver that no manager has."""

    def __init__(self):
        super().__init__(lambda: virt_driver.load_compute_driver(virtapi.VirtAPI()))
        self._events = collections.deque(maxlen=10_000)
        for late in (nova.conf.neutron, nova.conf.devices):  # as `ComputeManager.init_host` does
            late.register_dynamic_opts(CONF)
        self.driver.init_host(host=CONF.host)
        self.driver.register_event_listener(self._events.append)

    def events(self):
        """Lifecycle events that the driver has passed on, oldest first: UUID and transition."""
        return [[event.uuid, event.get_name()] for event in list(self._events)]

    def reload(self):
        """What nova-compute's SIGHUP does to the configuration."""
        changed = CONF.mutate_config_files()
        return sorted(f"{group or 'DEFAULT'}.{option}" for group, option in changed)

    def catch_up(self):
        """Not on a green thread: Nova's handler of events may have to wait for one."""
        questions = self.driver._gate._questions

        def take_in():
            questions._live.resync(LONG)
            questions.listed(only_running=False)  # this connection's events come before the reply
            return self._named("guestlist.event_loop:drain")(LONG)

        return self._named("guestlist.nova.green_threads:aside")(take_in)

    def hold_up_events(self):
        """Stop libvirt's event loop in a callback, until they are let go. Returns once it has."""
        threading = self._named("guestlist.unpatched:threading")
        holding, self._let_go = threading.Event(), threading.Event()

        def hold(timer, _):
            libvirt.virEventRemoveTimeout(timer)
            holding.set()
            self._let_go.wait()

        libvirt.virEventAddTimeout(0, hold, None)
        self._named("guestlist.nova.green_threads:aside")(holding.wait)

    def let_events_go(self):
        self._let_go.set()

    def stop(self):
        self.driver.cleanup_host(CONF.host)


def volumes_of_host():
    """What nova-compute asks the volume usage of: `ComputeManager._get_host_volume_bdms`."""
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
    """A value as JSON has it: an instance is its UUID, an object its public attributes."""
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


if __name__ == "__main__":
    ground.lend_what_is_missing()
    Desk().serve(OwnDriver, set_up=ground.set_up)
    os._exit(0)  # threads of libvirt's, of Nova's executors: none has anything to end

"""nova-compute: its own `main`, with a nova-conductor in the same process, and requests (`desk`).

In: `--config-file`, and requests. Out: answers; the log says the rest. oslo.messaging's in-process
transport needs a conductor in the same process. Nova has two settings for a whole process that say
which code may use the database. Here they depend on the thread: on the conductor's threads the
database is in reach, and on all others objects act by RPC. So nova-compute is as far from the
database as on a compute node: each object that it reads or saves goes through the conductor as a
message.
"""

import ground

# isort: split
import contextlib
import functools
import threading

import nova.cmd.compute
import rows
from desk import Desk
from drive import Driver
from nova import service
from nova.conductor import manager, rpcapi
from nova.db.main import api as main_db
from nova.objects import base

_CONDUCTORS_CALLS = ("object_class_action_versions", "object_action", "object_backport_versions")

_here = threading.local()


def conducts():
    """Whether this thread (or green thread) does the conductor's work."""
    return getattr(_here, "conductor", False)


@contextlib.contextmanager
def as_conductor():
    """Within, this thread does the conductor's work."""
    before = conducts()
    _here.conductor = True
    try:
        yield
    finally:
        _here.conductor = before


class Remote:
    """True on every thread except the conductor's; otherwise the API that it stands for."""

    def __init__(self, api=None):
        self._api = api

    def __bool__(self):
        return not conducts()

    def __getattr__(self, name):
        return getattr(self._api, name)


class Service(Driver):
    """The driver of the running service."""

    def add_instance(self, **columns):
        with as_conductor():
            super().add_instance(**columns)


def start_conductor():
    """Start a conductor in this process, and keep the database from all other threads."""
    for name in _CONDUCTORS_CALLS:
        call = getattr(manager.ConductorManager, name)
        setattr(manager.ConductorManager, name, as_conductor()(call))
    base.NovaObject.indirection_api = Remote(base.NovaObject.indirection_api)
    main_db.DISABLE_DB_ACCESS = Remote()
    with as_conductor():
        service.Service.create(binary="nova-conductor", topic=rpcapi.RPC_TOPIC).start()
        rows.add_service()


def main():
    """Start both; take requests when nova-compute has started, and answer if it has failed."""
    create, start = service.Service.create, service.Service.start
    desk = Desk()

    def create_after_conductor(**how):
        service.Service.create = create
        start_conductor()
        return create(**how)

    def start_and_tell(self):
        start(self)
        if self.binary == "nova-compute":
            begun = functools.partial(Service, lambda: self.manager.driver)
            threading.Thread(target=desk.serve, args=(begun,), name="desk", daemon=True).start()

    service.Service.create = create_after_conductor
    service.Service.start = start_and_tell
    try:
        nova.cmd.compute.main()
    except BaseException as error:  # a driver that does not load exits
        desk.fail(error)
        raise


if __name__ == "__main__":
    ground.lend_what_is_missing()
    main()

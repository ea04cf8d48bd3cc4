"""The first steps of each Nova process in the laboratory, as nova-compute takes them.

In: `--config-file` on the command line. Out: Nova's concurrency mode, configuration, log and
objects. The import of `nova.cmd.compute` sets the mode, so it comes first. Runs with the Python of
a Nova environment: imports nothing of the tests.
"""

import nova.cmd.compute

# isort: split
import contextlib
import shlex
import sys
import threading

import nova.conf
import nova.privsep
import os_vif
from nova import config, objects, utils
from nova.virt.libvirt import host
from oslo_db.sqlalchemy import enginefacade
from oslo_log import log as logging
from oslo_privsep import priv_context

CONF = nova.conf.CONF


def set_up() -> None:
    """Do what `nova.cmd.compute.main` does before it makes the service, without the conductor."""
    config.parse_args(sys.argv)
    logging.setup(CONF, "nova")
    priv_context.init(root_helper=shlex.split(utils.get_root_helper()))
    objects.register_all()
    for late in (nova.conf.neutron, nova.conf.devices):  # as the compute manager does
        late.register_dynamic_opts(CONF)
    if os_brick := getattr(nova.cmd.compute, "os_brick", None):  # not in the older releases
        os_brick.setup(CONF)
    os_vif.initialize()


def lend_what_is_missing() -> None:
    """Replace what the laboratory lacks. Nova's own code is otherwise as released.

    - There is no sudo: code that needs privileges runs in this process, as with Nova's
      `PrivsepFixture`.
    - The test driver is not QEMU, and reports version 0.0.2. So it passes each test of the
      hypervisor's version.
    - The database is sqlite, not MariaDB. There a transaction that reads and then writes fails if
      another one has written meanwhile. So transactions that write wait for each other, as with
      Nova's `DatabaseWriteLock`.
    """
    nova.privsep.sys_admin_pctxt.set_client_mode(False)
    _lend_a_version()
    _lend_a_lock()


def _lend_a_version() -> None:
    whole = host.Host._version_check

    def version_check(self, lv_ver=None, hv_ver=None, hv_type=None, **how):
        if hv_ver is not None and self.get_connection().getType() == "TEST":
            hv_ver = None
        return whole(self, lv_ver=lv_ver, hv_ver=hv_ver, hv_type=hv_type, **how)

    host.Host._version_check = version_check


def _lend_a_lock() -> None:
    manager, writing = enginefacade._TransactionContextManager, threading.RLock()
    whole = manager._transaction_scope

    @contextlib.contextmanager
    def transaction_scope(self, context):
        writes = self._mode is enginefacade._WRITER
        with writing if writes else contextlib.nullcontext(), whole(self, context) as resource:
            yield resource

    manager._transaction_scope = transaction_scope

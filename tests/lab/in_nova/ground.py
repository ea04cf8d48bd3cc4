"""What each of the laboratory's Nova processes does before anything else, as nova-compute does it.

In: `--config-file` on the command line. Out: Nova's concurrency mode (applied by the import of
`nova.cmd.compute`, which is why it comes first), configuration, log, objects, and a database with
Nova's main schema. Run by the python of a Nova environment: imports nothing of the tests'.
"""

import nova.cmd.compute

# isort: split
import contextlib
import shlex
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

import nova.conf
import nova.privsep
import os_vif
from nova import config, objects, utils
from nova.db import migration
from nova.virt.libvirt import host
from oslo_log import log as logging
from oslo_privsep import priv_context

CONF = nova.conf.CONF


def set_up() -> None:
    """What `nova.cmd.compute.main` does before it makes the service, but for the conductor."""
    config.parse_args(sys.argv)
    logging.setup(CONF, "nova")
    priv_context.init(root_helper=shlex.split(utils.get_root_helper()))
    objects.register_all()
    with contextlib.suppress(ImportError, AttributeError):  # not before OpenStack 2025.1
        import os_brick  # noqa: PLC0415

        os_brick.setup(CONF)
    os_vif.initialize()
    lend_what_is_missing()
    make_database()


def make_database() -> None:
    """Nova's main database, from a copy that is made once in the life of the environment."""
    template = Path(sys.prefix) / "guestlist-lab.sqlite"
    path = Path(CONF.database.connection.removeprefix("sqlite:///"))
    if template.exists():
        shutil.copyfile(template, path)
        return
    with contextlib.closing(sqlite3.connect(path)) as empty:
        empty.execute("PRAGMA journal_mode=WAL")  # else one who writes keeps out all who read
    migration.db_sync(database="main")
    with tempfile.NamedTemporaryFile(dir=template.parent, delete=False) as copy:
        pass
    with contextlib.ExitStack() as stack:
        made, kept = (
            stack.enter_context(contextlib.closing(sqlite3.connect(name)))
            for name in (path, copy.name)
        )
        made.backup(kept)
    Path(copy.name).rename(template)


def lend_what_is_missing() -> None:
    """Stub what the laboratory has not got. Nova's own code is otherwise as released.

    - No sudo: what needs privileges runs in this process, as in Nova's `PrivsepFixture`.
    - The test driver is no QEMU and says that its version is 0.0.2: where the driver asks for a
      minimum version of the hypervisor, that of the test driver is new enough.
    """
    nova.privsep.sys_admin_pctxt.set_client_mode(False)
    whole = host.Host._version_check

    def version_check(self, lv_ver=None, hv_ver=None, hv_type=None, **how):
        if hv_ver is not None and self.get_connection().getType() == "TEST":
            hv_ver = None
        return whole(self, lv_ver=lv_ver, hv_ver=hv_ver, hv_type=hv_type, **how)

    host.Host._version_check = version_check

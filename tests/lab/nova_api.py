"""A released nova-api over HTTP on loopback, on sqlite, with cells: the real schema and policy.

In: the number of cells, how many servers a page has at most, and rows to write. Out: its URL, a
`clouds.yaml` for openstacksdk, and what the rows say through the API. Nova's own objects write the
rows; `in_nova/servers.py` says which write of Nova's each method is. There is no compute service,
no scheduler, no Keystone and no Neutron: nothing happens to a server except what a test writes.

`in_nova/api.py` says what is not Nova's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import uuid as uuid_module
from collections.abc import Iterable
from typing import Self

from lab.nova import NovaProcess

CELL0 = "cell0"
_CELL0_UUID = "00000000-0000-0000-0000-000000000000"  # nova.objects.CellMapping.CELL0_UUID

_CLOUDS = """\
clouds:
  lab: &lab
    auth_type: admin_token
    auth: {{endpoint: "{url}", token: admin}}
    compute_api_version: "2.1"
  member: {{auth_type: admin_token, auth: {{endpoint: "{url}", token: member}}}}
  reader: {{auth_type: admin_token, auth: {{endpoint: "{url}", token: reader}}}}
  expired: {{auth_type: admin_token, auth: {{endpoint: "{url}", token: expired}}}}
"""


class NovaApi(NovaProcess):
    """A running nova-api; a context manager.

    The cells are "cell1", "cell2", …, and cell0. `clouds_yaml` is a file with the clouds "lab" (an
    admin), "member", "reader" and "expired" (a token that Nova refuses).

    Raises:
        RuntimeError: there is no such environment.
        NovaError: the API did not start; its log is in the notes.

    Cost: 4 seconds and 150 MB; once for an environment another 15 seconds.
    """

    script = "api.py"

    def __init__(self, cells: int = 2, max_limit: int = 1000) -> None:
        super().__init__("test:///default")  # no driver is loaded
        self._cells = [CELL0, *(f"cell{number}" for number in range(1, cells + 1))]
        self._max_limit = max_limit

    def __enter__(self) -> Self:
        super().__enter__()
        self.url = f"http://127.0.0.1:{self._request('port')}/v2.1"
        self.clouds_yaml = self.directory / "clouds.yaml"
        self.clouds_yaml.write_text(_CLOUDS.format(url=self.url))
        return self

    def limit(self, most: int) -> None:
        """Let a page have so many servers."""
        self._request("limit", most=most)

    def cell_down(self, cell: str) -> None:
        """Let a cell's database be out of reach."""
        self._request("cell", name=cell, up=False)

    def cell_up(self, cell: str) -> None:
        """Let a cell's database be in reach again."""
        self._request("cell", name=cell, up=True)

    def add_host(self, host: str, cell: str = "cell1") -> None:
        """Add a compute host. Its hypervisor has the same name."""
        self._request("add_host", host=host, cell=cell)

    def create(
        self,
        uuid: uuid_module.UUID,
        host: str | None,
        *,
        cell: str = "cell1",
        name: str | None = None,
        **columns: object,
    ) -> str:
        """Create a server that has been there for long; return the name of its domain.

        `columns` are those of an instance: `vm_state` ("active"), `task_state` (None),
        `power_state` (1), …
        """
        name = name or f"server-{uuid}"
        made: str = self._request(
            "launch", uuid=str(uuid), name=name, host=host, cell=cell, columns=columns
        )
        return made

    def create_many(
        self, servers: Iterable[tuple[uuid_module.UUID, str]], cell: str = "cell1"
    ) -> list[str]:
        """Create many servers, active, each on its host; return the names of their domains.

        Cost: about a second for 10,000.
        """
        rows = [(str(uuid), f"server-{uuid}", host) for uuid, host in servers]
        return list(self._request("launch_many", servers=rows, cell=cell))

    def request(self, uuid: uuid_module.UUID, name: str | None = None) -> None:
        """Ask for a server: Nova has a build request of it, and no cell yet."""
        self._request("request", uuid=str(uuid), name=name or f"server-{uuid}")

    def schedule(self, uuid: uuid_module.UUID, cell: str) -> str:
        """Put a requested server into its cell, still without a host; return its domain's name."""
        return str(self._request("schedule", uuid=str(uuid), cell=cell))

    def update(self, uuid: uuid_module.UUID, **columns: object) -> None:
        """Change a server's instance, in one write. A `host` sets its node as well."""
        self._request("update", uuid=str(uuid), columns=columns)

    def delete(self, uuid: uuid_module.UUID) -> None:
        """Delete a server's instance: its row stays, and only an admin can ask for it."""
        self._request("delete", uuid=str(uuid))

    def queue_for_delete(self, uuid: uuid_module.UUID, *, queued: bool = True) -> None:
        """Mark a server as one whose deletion was asked for: its cell's mapping says so."""
        self._request("queue_for_delete", uuid=str(uuid), queued=queued)

    def action(self, uuid: uuid_module.UUID, name: str) -> str:
        """Record an action of a server, as the API does at each request; return its request id."""
        return str(self._request("act", uuid=str(uuid), name=name))

    def migration(
        self,
        uuid: uuid_module.UUID,
        kind: str,
        status: str,
        source: str,
        dest: str | None = None,
    ) -> int:
        """Create a migration; return its id. `kind` is Nova's `migration_type`."""
        return int(
            self._request(
                "migrate", uuid=str(uuid), kind=kind, status=status, source=source, dest=dest
            )
        )

    def update_migration(self, uuid: uuid_module.UUID, number: int, **columns: object) -> None:
        """Change a migration of a server, in one write."""
        self._request("update_migration", uuid=str(uuid), number=number, columns=columns)

    # How it is done

    def _database(self, name: str) -> str:
        return f"sqlite:///{self.directory}/{name}.sqlite"

    def _options(self) -> dict[str, dict[str, object]]:
        options = super()._options()
        options["DEFAULT"] |= {
            "service_down_time": 1_000_000,  # nothing here reports that a compute service is up
            "default_log_levels": "stevedore=CRITICAL",
        }
        return options | {
            "api_database": {"connection": self._database("api")},
            "api": {"max_limit": self._max_limit, "response_validation": "error"},
        }

    def _make_database(self) -> None:
        """Copy the databases with Nova's schema: one of the API, and one for each cell."""
        super()._make_database()
        for name in self._cells:
            shutil.copyfile(self.directory / "nova.sqlite", self.directory / f"{name}.sqlite")
        api, kept = self.directory / "api.sqlite", self._python.parents[1] / "nova-api.sqlite"
        if not kept.exists():
            with contextlib.closing(sqlite3.connect(api)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
            manage = [self._python, self._python.with_name("nova-manage")]
            subprocess.run(
                [*manage, *self._configuration, "api_db", "sync"], check=True, capture_output=True
            )
            own = kept.with_suffix(f".{os.getpid()}")
            shutil.copyfile(api, own)
            own.rename(kept)
            (self.directory / "nova.log").unlink(missing_ok=True)
        shutil.copyfile(kept, api)

    def _write_configuration(self) -> None:
        super()._write_configuration()
        released = self._python.parents[1] / "etc" / "nova" / "api-paste.ini"
        keystones = "keystonemiddleware.auth_token:filter_factory"
        pipeline = released.read_text()
        assert keystones in pipeline
        (self.directory / "api-paste.ini").write_text(
            pipeline.replace(keystones, "tokens:filter_factory")
        )

    @property
    def _environment(self) -> dict[str, str]:
        uuids = [_CELL0_UUID, *(str(uuid_module.uuid4()) for _ in self._cells[1:])]
        cells = {
            name: (uuid, self._database(name))
            for name, uuid in zip(self._cells, uuids, strict=True)
        }
        return {
            **super()._environment,
            "OS_NOVA_CONFIG_DIR": str(self.directory),
            "LAB_CELLS": json.dumps(cells),
        }

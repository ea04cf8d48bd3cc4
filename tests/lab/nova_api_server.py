"""A small server that plays Keystone and Nova's API on loopback, by Nova's own rules.

In: servers, cells, migrations and actions, and faults to play. Out: answers at microversion 2.1 or
2.69, as the released Nova's schemas describe them (`test_audit_nova_api.py` compares), and the
requests that came. What it copies of Nova's behaviour, each with the place in Nova's source:

- a list without paging and filters has the servers of a cell that is down, without details, and
  only as many as the page has room for; any other list leaves them out (servers.py,
  `_is_cell_down_supported`; compute/api.py, `get_all`);
- build requests come first; the others by time of creation, newest first, then by UUID; a page has
  `max_limit` servers at most, of which a server that is there twice is removed afterwards;
- a marker may be a deleted server; one that is not there at all is an error 400;
- a server whose deletion was asked for while its cell is down is not there (compute/api.py,
  `_get_instance_from_cell`);
- the link to a next page is there if a page has exactly as many servers as the limit.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import uuid as uuid_module
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

PASSWORD = "correct-horse-battery"  # noqa: S105  of the laboratory
PROJECT = "11112222333344445555666677778888"
NEVER = "2026-01-01T00:00:00Z"

Row = dict[str, Any]
Fault = Callable[["Handler"], bool]
"""Plays a fault in place of the answer; returns False to let the answer be."""


def server_row(number: int, **changes: Any) -> Row:
    """Return the row of a server as Nova gives it to an administrator, at 2.69."""
    uuid = str(uuid_module.UUID(int=number))
    row: Row = {
        "id": uuid,
        "name": f"server-{number}",
        "status": "ACTIVE",
        "tenant_id": PROJECT,
        "user_id": "88887777666655554444333322221111",
        "metadata": {},
        "hostId": "f" * 56,
        "image": "",
        "flavor": {
            "vcpus": 1,
            "ram": 512,
            "disk": 1,
            "ephemeral": 0,
            "swap": 0,
            "original_name": "m1.tiny",
            "extra_specs": {},
        },
        "created": f"2026-01-01T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z",
        "updated": NEVER,
        "addresses": {},
        "accessIPv4": "",
        "accessIPv6": "",
        "links": [{"rel": "self", "href": f"http://127.0.0.1/v2.1/servers/{uuid}"}],
        "OS-DCF:diskConfig": "AUTO",
        "OS-EXT-AZ:availability_zone": "nova",
        "config_drive": "",
        "key_name": None,
        "OS-SRV-USG:launched_at": "2026-01-01T00:00:00.000000",
        "OS-SRV-USG:terminated_at": None,
        "OS-EXT-SRV-ATTR:host": "compute-1",
        "OS-EXT-SRV-ATTR:instance_name": f"instance-{number:08x}",
        "OS-EXT-SRV-ATTR:hypervisor_hostname": "compute-1.example.org",
        "OS-EXT-SRV-ATTR:hostname": f"server-{number}",
        "OS-EXT-SRV-ATTR:kernel_id": "",
        "OS-EXT-SRV-ATTR:launch_index": 0,
        "OS-EXT-SRV-ATTR:ramdisk_id": "",
        "OS-EXT-SRV-ATTR:reservation_id": "r-12345678",
        "OS-EXT-SRV-ATTR:root_device_name": "/dev/vda",
        "OS-EXT-SRV-ATTR:user_data": None,
        "OS-EXT-STS:task_state": None,
        "OS-EXT-STS:vm_state": "active",
        "OS-EXT-STS:power_state": 1,
        "os-extended-volumes:volumes_attached": [],
        "locked": False,
        "description": None,
        "tags": [],
        "trusted_image_certificates": None,
        "host_status": "UP",
        "progress": 0,
    }
    return row | changes


def migration_row(number: int, uuid: str, **changes: Any) -> Row:
    """Return the row of a migration as GET /os-migrations gives it, at 2.59."""
    row: Row = {
        "id": number,
        "uuid": str(uuid_module.UUID(int=number)),
        "instance_uuid": uuid,
        "migration_type": "live-migration",
        "status": "completed",
        "source_compute": "compute-1",
        "source_node": "compute-1.example.org",
        "dest_compute": "compute-2",
        "dest_node": "compute-2.example.org",
        "dest_host": "192.0.2.2",
        "old_instance_type_id": 1,
        "new_instance_type_id": 1,
        "created_at": "2026-01-01T00:00:00.000000",
        "updated_at": None,
    }
    return row | changes


def action_row(number: int, uuid: str) -> Row:
    """Return the row of an action as GET /servers/{id}/os-instance-actions gives it, at 2.58."""
    return {
        "action": "reboot",
        "instance_uuid": uuid,
        "request_id": f"req-{uuid_module.UUID(int=number)}",
        "user_id": "88887777666655554444333322221111",
        "project_id": PROJECT,
        "start_time": "2026-01-01T00:00:00.000000",
        "updated_at": "2026-01-01T00:00:00.000000",
        "message": None,
    }


@dataclass
class Cloud:
    """What the server's Nova knows, and which rules it plays by."""

    building: list[Row] = field(default_factory=list)
    """Servers that wait for a host: build requests."""
    servers: list[Row] = field(default_factory=list)
    deleted: list[Row] = field(default_factory=list)
    """Deleted servers that are still in the database."""
    cells: dict[str, str] = field(default_factory=dict)
    """The cell of a server, by id; "cell1" if it is not there."""
    down: set[str] = field(default_factory=set)
    """The cells that are down."""
    deleting: set[str] = field(default_factory=set)
    """Servers, by id, whose deletion was asked for."""
    services: dict[str, str] = field(default_factory=lambda: {"compute-1": "cell1"})
    """The cell of each compute service."""
    migrations: list[Row] = field(default_factory=list)
    actions: list[Row] = field(default_factory=list)
    max_limit: int = 1000
    newest: str = "2.96"
    is_admin: bool = True
    tells_hosts: bool = True
    refused: set[str] = field(default_factory=set)
    """Last parts of paths that a policy refuses."""

    def is_up(self, row: Row) -> bool:
        """Return whether the cell of a server answers."""
        return self.cells.get(row["id"], "cell1") not in self.down

    def listed(self, query: Mapping[str, str], microversion: tuple[int, int]) -> tuple[int, Row]:
        """Return status and body of GET /servers/detail."""
        if "all_tenants" in query and not self.is_admin:
            return forbidden("os_compute_api:servers:detail:get_all_tenants")
        limit = min(self.max_limit, int(query.get("limit", self.max_limit)))
        if query.get("deleted") == "true":
            rows = [row for row in self.deleted if self.is_up(row)]
            return 200, {"servers": [row for row in rows if row["id"] == query.get("uuid")]}
        building, rest = by_creation(self.building), by_creation(self.servers)
        if marker := query.get("marker"):
            ids = [row["id"] for row in building]
            if marker in ids:
                building = building[ids.index(marker) + 1 :]
            else:
                building = []
                known = {row["id"]: row for row in [*self.servers, *self.deleted]}
                if marker not in known:
                    return 400, fault(400, "badRequest", f"marker [{marker}] not found")
                rest = [row for row in rest if order(row) > order(known[marker])]
        building = building[:limit]
        room = limit - len(building)
        unique: dict[str, Row] = {}
        for row in [*building, *[row for row in rest if self.is_up(row)][:room]]:
            unique.setdefault(row["id"], row)
        page = [self.shown(row) for row in unique.values()]
        if microversion >= (2, 69) and set(query) <= {"all_tenants"}:
            told = [row for row in rest if row["id"] not in self.deleting]
            down = [partial_row(row) for row in told if not self.is_up(row)]
            page = down[: max(0, limit - len(page))] + page
        body: Row = {"servers": page}
        if len(page) == limit:
            href = f"http://127.0.0.1/v2.1/servers/detail?marker={page[-1]['id']}"
            body["servers_links"] = [{"rel": "next", "href": href}]
        return 200, body

    def one(self, uuid: str) -> tuple[int, Row]:
        """Return status and body of GET /servers/{id}."""
        for row in [*self.building, *self.servers]:
            if row["id"] == uuid:
                if self.is_up(row):
                    return 200, {"server": self.shown(row)}
                if uuid in self.deleting:
                    break
                more = ("image", "flavor", "OS-EXT-AZ:availability_zone", "user_id")
                kept = {key: row[key] for key in more} | {"OS-EXT-STS:power_state": 0}
                return 200, {"server": partial_row(row) | kept}
        return 404, fault(404, "itemNotFound", f"Instance {uuid} could not be found.")

    def listed_services(self) -> Row:
        """Return the body of GET /os-services?binary=nova-compute."""
        rows: list[Row] = []
        for host, cell in self.services.items():
            row: Row = {"binary": "nova-compute", "host": host, "status": "UNKNOWN"}
            if cell not in self.down:
                row |= {
                    "id": str(uuid_module.uuid5(uuid_module.NAMESPACE_DNS, host)),
                    "status": "enabled",
                    "state": "up",
                    "zone": "nova",
                    "updated_at": "2026-01-01T00:00:00.000000",
                    "disabled_reason": None,
                    "forced_down": False,
                }
            rows.append(row)
        return {"services": rows}

    def shown(self, row: Row) -> Row:
        """Return a row as this user sees it."""
        if self.tells_hosts:
            return row
        return {key: row[key] for key in row if not key.startswith("OS-EXT-SRV-ATTR:")}


def by_creation(rows: list[Row]) -> list[Row]:
    """Return rows in Nova's order."""
    return sorted(rows, key=order)


def order(row: Row) -> tuple[list[int], str]:
    """Return the key of Nova's order: newest first, then by UUID."""
    return [-ord(each) for each in row["created"]], row["id"]


def partial_row(row: Row) -> Row:
    """Return what Nova tells of a server whose cell is down."""
    kept = {key: row[key] for key in ("id", "tenant_id", "created", "links")}
    return kept | {"status": "UNKNOWN"}


def fault(code: int, name: str, message: str) -> Row:
    """Return the body of an error of Nova."""
    return {name: {"code": code, "message": message}}


def forbidden(policy: str) -> tuple[int, Row]:
    """Return status and body where a policy refuses."""
    said = f"Policy doesn't allow {policy} to be performed."
    return 403, fault(403, "forbidden", said)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        """Answer for Keystone's versions, or for Nova."""
        self.answer_to("GET")

    def do_POST(self) -> None:
        """Answer for Keystone's tokens."""
        self.answer_to("POST")

    def answer_to(self, method: str) -> None:
        """Note the request, play a fault, or answer by the rules."""
        lab = self.server.lab
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        place = urlsplit(self.path)
        lab.requests.append(f"{method} {self.path}")
        for begins, play in list(lab.faults.items()):
            if self.path.startswith(begins) and play(self):
                return
        with lab.lock:
            if place.path.startswith("/identity"):
                self.keystone(method, place.path, body)
            else:
                self.nova(place.path, {key: v[-1] for key, v in parse_qs(place.query).items()})

    def keystone(self, method: str, path: str, body: bytes) -> None:
        """Answer with the versions or with a token."""
        lab = self.server.lab
        if method == "GET":
            versions = {"id": "v3.14", "status": "stable", "links": [self.link("/identity/v3/")]}
            media = [{"base": "application/json", "type": "application/vnd.openstack.identity-v3"}]
            version = versions | {"media-types": media}
            if path.rstrip("/").endswith("v3"):
                self.send({"version": version})
            else:
                self.send({"versions": {"values": [version]}}, 300)
            return
        asked = json.loads(body)["auth"]["identity"]
        if asked["password"]["user"]["password"] != lab.password:
            said = "The request you have made requires authentication."
            self.send({"error": {"code": 401, "message": said}}, 401)
            return
        lab.token = f"token-{uuid_module.uuid4().hex}"
        self.send(lab.access(), 201, {"X-Subject-Token": lab.token})

    def nova(self, path: str, query: Mapping[str, str]) -> None:
        """Answer as Nova does."""
        lab, cloud = self.server.lab, self.server.lab.cloud
        last = path.rpartition("/")[2]
        if path.rstrip("/") == "/compute/v2.1":
            self.send({"version": lab.version()})
            return
        if self.headers.get("X-Auth-Token") != lab.token:
            self.send(fault(401, "unauthorized", "The request needs authentication."), 401)
            return
        asked = self.headers.get("OpenStack-API-Version", "compute 2.1").removeprefix("compute ")
        major, _, minor = asked.partition(".")
        status: int = 200
        match path.removeprefix("/compute/v2.1/").split("/"):
            case _ if last in cloud.refused:
                status, found = forbidden(last)
            case ["servers", "detail"]:
                status, found = cloud.listed(query, (int(major), int(minor)))
            case ["servers", uuid, "os-instance-actions"]:
                rows = [row for row in cloud.actions if row["instance_uuid"] == uuid]
                found = {"instanceActions": rows}
            case ["servers", uuid]:
                status, found = cloud.one(uuid)
            case ["os-migrations"]:
                wanted = query.get("instance_uuid")
                rows = [row for row in cloud.migrations if row["instance_uuid"] == wanted]
                found = {"migrations": rows}
            case ["os-services"]:
                found = cloud.listed_services()
            case _:
                status, found = 404, fault(404, "itemNotFound", "no such path")
        lab.answers.append((path, query, status, found))
        self.send(found, status)

    def link(self, path: str) -> Row:
        """Return a link to a place on this server."""
        return {"rel": "self", "href": self.server.lab.url + path}

    def send(self, body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Send JSON, or bytes as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(OSError):  # the client has given up
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    lab: NovaApiServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about clients that leave."""


class NovaApiServer:
    """The server on a port of loopback. `close` ends it."""

    def __init__(self, cloud: Cloud | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self.cloud = cloud or Cloud()
        self.password = PASSWORD
        self.token = ""
        self.has_endpoint = True
        self.requests: list[str] = []
        self.answers: list[tuple[str, Mapping[str, str], int, Row]] = []
        """Nova's answers: path, query, status, body."""
        self.faults: dict[str, Fault] = {}
        """By the beginning of a path: what to play there."""
        self.lock = threading.Lock()
        self.released = threading.Event()
        """Set: answers that hang go on."""
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.lab = self
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server and the answers that hang."""
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def asked(self) -> list[str]:
        """Return the requests to Nova that were no question for its versions."""
        paths = [each.removeprefix("GET /compute/v2.1/") for each in self.requests]
        return [path for path in paths if path and not path.startswith(("GET", "POST"))]

    def version(self) -> Row:
        """Return Nova's version document."""
        return {
            "id": "v2.1",
            "status": "CURRENT",
            "version": self.cloud.newest,
            "min_version": "2.1" if self.cloud.newest else "",
            "updated": "2013-07-23T11:33:21Z",
            "links": [{"rel": "self", "href": f"{self.url}/compute/v2.1/"}],
        }

    def access(self) -> Row:
        """Return what a token allows, with the catalogue."""
        endpoint = {
            "id": "1",
            "interface": "public",
            "region": "here",
            "region_id": "here",
            "url": f"{self.url}/compute/v2.1",
        }
        service = {"id": "2", "type": "compute", "name": "nova", "endpoints": [endpoint]}
        return {
            "token": {
                "methods": ["password"],
                "user": {"id": "u", "name": "admin", "domain": {"id": "d", "name": "Default"}},
                "project": {"id": PROJECT, "name": "p", "domain": {"id": "d", "name": "Default"}},
                "roles": [{"id": "r", "name": "admin"}],
                "catalog": [service] if self.has_endpoint else [],
                "issued_at": "2026-01-01T00:00:00.000000Z",
                "expires_at": "2099-01-01T00:00:00.000000Z",
            }
        }

    def clouds_yaml(self, directory: Path, **more: object) -> Path:
        """Write a clouds.yaml whose cloud "lab" is this server; return its path."""
        auth = {
            "auth_url": f"{self.url}/identity",
            "username": "admin",
            "password": PASSWORD,
            "project_name": "p",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        }
        path = directory / "clouds.yaml"
        path.write_text(json.dumps({"clouds": {"lab": {"auth": auth, **more}}}))
        return path


# Faults


def status(code: int, body: Any = b"", **headers: str) -> Fault:
    """Return a fault that answers with this status and body."""

    def play(handler: Handler) -> bool:
        handler.send(body, code, headers)
        return True

    return play


def silence(handler: Handler) -> bool:
    """Answer nothing until the server ends."""
    handler.server.lab.released.wait()
    handler.close_connection = True
    return True


def hang_up(handler: Handler) -> bool:
    """Close the connection without an answer."""
    handler.close_connection = True
    return True


def cut(handler: Handler) -> bool:
    """Close the connection in the middle of the answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"servers": [')
    handler.close_connection = True
    return True


def drip(handler: Handler) -> bool:
    """Answer byte by byte, without end."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    with contextlib.suppress(OSError):
        while not handler.server.lab.released.wait(0.05):
            handler.wfile.write(b" ")
    handler.close_connection = True
    return True


def slow(handler: Handler) -> bool:
    """Answer with one server, byte by byte, and complete the answer when the server ends."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while not handler.server.lab.released.wait(0.05):
        handler.wfile.write(b" ")
    handler.wfile.write(json.dumps({"servers": [server_row(1)]}).encode())
    handler.close_connection = True
    return True


@contextlib.contextmanager
def playing(lab: NovaApiServer, begins: str, play: Fault) -> Iterator[None]:
    """Play a fault where a path begins so."""
    lab.faults[begins] = play
    try:
        yield
    finally:
        del lab.faults[begins]

"""nova-api: the released compute API as a WSGI application over HTTP, and requests (`desk`).

In: `--config-file` of a nova.conf that lies beside an `api-paste.ini`, and the databases that it
names; requests that write rows. Out: the port on loopback; answers. The routes, the schemas, the
policy and the views are Nova's own. There is no Keystone (`tokens` stands in its place), and no
Neutron: a server has no security groups.

Rows are written by Nova's own objects, in the cell that the server is mapped to. A cell is down if
its database cannot be opened.
"""

import ground

# isort: split
import functools
import json
import os
import threading
import wsgiref.simple_server
from socketserver import ThreadingMixIn

import servers
from desk import Desk, Requests
from ground import CONF
from nova import context, objects
from nova.api.openstack import wsgi_app
from nova.network import security_group_api
from nova.objects import cell_mapping

NAME, PROGRAM = "osapi_compute", "nova-api-os-compute"  # as in nova.wsgi.osapi_compute
UNREACHABLE = "sqlite:////nonexistent/nova.sqlite"


class Server(ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """A thread for each HTTP request."""

    daemon_threads = True
    request_queue_size = 128


class Handler(wsgiref.simple_server.WSGIRequestHandler):
    """Writes no line for a request: Nova's own log has one."""

    def log_message(self, *_):
        pass


class Api(Requests):
    """The HTTP server, and the requests that change Nova's rows."""

    def __init__(self, cells):
        super().__init__()
        admin = context.get_admin_context()
        self._up = {}
        self.cells = {}
        for name, (uuid, connection) in cells.items():
            cell = cell_mapping.CellMapping(
                admin, uuid=uuid, name=name, transport_url="none:/", database_connection=connection
            )
            cell.create()
            self.cells[name], self._up[name] = cell, connection
        objects.register_all()
        security_group_api.get_instances_security_groups_bindings = lambda *_, **__: {}
        application = wsgi_app.init_application(NAME, PROGRAM)
        self._server = wsgiref.simple_server.make_server(
            "127.0.0.1", 0, application, Server, Handler
        )
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()

    def port(self):
        return self._server.server_port

    def limit(self, most):
        """Let a page have so many servers."""
        CONF.set_override("max_limit", most, group="api")

    def cell(self, name, up):
        """Let a cell's database be in reach, or not; as an API that was started again sees it."""
        cell = self.cells[name]
        cell.database_connection = self._up[name] if up else UNREACHABLE
        cell.save()
        context.reset_globals()

    def __getattr__(self, name):
        """Return a request of `servers`, with the cells."""
        if name.startswith("_"):
            raise AttributeError(name)
        return functools.partial(getattr(servers, name), self.cells)


def read_configuration():
    """Read the configuration and set up the log, as `init_application` does, but before it.

    It does so only once in a process.
    """
    wsgi_app.init_global_data(wsgi_app._get_config_files(), NAME, PROGRAM)


def main():
    """Serve until the other end of the socket is closed. Does not return."""
    ground.lend_what_is_missing()
    cells = json.loads(os.environ["LAB_CELLS"])
    Desk().serve(functools.partial(Api, cells), set_up=read_configuration)
    os._exit(0)


if __name__ == "__main__":
    main()

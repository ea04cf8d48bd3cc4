"""A filter for `api-paste.ini` in place of Keystone's `authtoken`: a token says who asks.

In: the header `X-Auth-Token`. Out: what Keystone's middleware passes on (user, project, roles), or
401. "admin" is an admin of the project "lab", "member" a user of it, "reader" one who may only
read; any other token is one that has expired.
"""

ROLES = {"admin": "admin,manager,member,reader", "member": "member,reader", "reader": "reader"}


def filter_factory(*_, **__):
    """Return the filter, as `paste.deploy` asks for it."""
    return Tokens


class Tokens:
    """The WSGI application behind the filter."""

    def __init__(self, application):
        self._application = application

    def __call__(self, environment, start_response):
        user = environment.get("HTTP_X_AUTH_TOKEN")
        if user not in ROLES:
            challenge = ("WWW-Authenticate", "Keystone uri='http://127.0.0.1'")
            start_response("401 Unauthorized", [challenge, ("Content-Type", "application/json")])
            return [b'{"error": {"code": 401, "title": "Unauthorized"}}']
        environment |= {
            "HTTP_X_IDENTITY_STATUS": "Confirmed",
            "HTTP_X_USER_ID": user,
            "HTTP_X_PROJECT_ID": "lab",
            "HTTP_X_ROLES": ROLES[user],
        }
        return self._application(environment, start_response)

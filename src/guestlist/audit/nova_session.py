"""One session with Nova's API: the cloud, the token, the microversion; one answer at a time.

In: the name of a cloud in clouds.yaml. Out: answers of Nova as JSON, or one of the `NovaFailure`s.
Only GET requests. A message has neither a password nor a token in it.

Bounded are an answer (`MOST_BYTES`) and the whole time of a question, from its first byte to its
last one: the sockets' own timeout begins again with each byte, so the thread that waits also looks
at `overdue`. Redirects of an answer are not followed: the token would go along. Keystone's answers
and the version documents are read by keystoneauth, whose sizes nothing bounds.

openstacksdk's proxies are not used: they answer from a cache if clouds.yaml says so.

Source: keystoneauth1/session.py (`request`), openstack/config/loader.py, cloud_region.py.
"""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import keystoneauth1.adapter
import openstack.config
import openstack.exceptions
from keystoneauth1 import exceptions as told

from guestlist.audit.api_rows import printable
from guestlist.errors import (
    NovaDenied,
    NovaFailure,
    NovaLost,
    NovaUnreachable,
    short,
)
from guestlist.unpatched import threading, time

DOWN_CELLS = 2, 69
"""The microversion from which on Nova tells of cells that are down. No later one is asked for."""

MOST_BYTES = 256 * 1024 * 1024
"""Bytes of one answer: 1,000 servers, each with 64 KiB of user data and as much else."""

GRACE = 1.0
"""Seconds past the timeout of a question in which its own, more exact error may still arrive."""

_CHUNK = 64 * 1024
_SECRETS = "password", "secret", "token", "passcode", "assertion"
_PLACE = re.compile(r"https?://[^/\s'\"]+")
_REFUSED = re.compile(r"\[Errno -?\d+\] ([^'\")]+)")
_TLS = re.compile(r"certificate verify failed: [^('\"]+|\[SSL: \w+\] [^('\"]+")
"""The system's or OpenSSL's own words in what requests says of a connection that failed."""

_LOGGERS = "keystoneauth", "openstack", "urllib3", "stevedore"

Microversion = tuple[int, int]


class Answer(NamedTuple):
    """What Nova answered to one request: the HTTP status, and the JSON object."""

    status: int
    body: Mapping[str, Any]


class _Cloud:
    """A cloud as clouds.yaml and the environment describe it, and its secrets."""

    def __init__(self, name: str | None, timeout: float) -> None:
        self.label = f"cloud {short(name)!r}" if name else "the cloud of the environment"
        self._name = name
        self._timeout = timeout
        self._region: Any = None
        self._session: Any = None

    def read(self) -> None:
        """Read the files and the environment.

        Raises:
            NovaUnreachable: they do not describe the cloud.
        """
        for each in _LOGGERS:  # without any handler, logging writes warnings to standard error
            logger = logging.getLogger(each)
            if not logger.handlers:
                logger.addHandler(logging.NullHandler())
        warnings.filterwarnings("ignore", module=r"(openstack|keystoneauth1)\b")
        try:
            config = openstack.config.OpenStackConfig(app_name="guestlist")
        except Exception as error:  # PyYAML's quotes lines, which may hold a password
            mark = getattr(error, "problem_mark", None)
            place = f" {mark.name}, line {mark.line + 1}" if mark else ""
            raise NovaUnreachable(
                f"cannot find {self.label}: clouds.yaml cannot be read:{place} "
                f"({type(error).__name__})"
            ) from None
        try:
            self._region = config.get_one(cloud=self._name, api_timeout=self._timeout)
        except openstack.exceptions.ConfigException as error:
            found = config.config_filename
            read = f"{found} was read" if found else "no clouds.yaml was found"
            raise NovaUnreachable(
                f"cannot find {self.label}: {self.clean(error).rstrip('.')}; {read}"
            ) from None

    def adapter(self) -> keystoneauth1.adapter.Adapter:
        """Return what asks the compute endpoint of the cloud; makes no request."""
        region = self._region
        self._session = region.get_session()
        return keystoneauth1.adapter.Adapter(
            session=self._session,
            service_type=region.get_service_type("compute"),
            service_name=region.get_service_name("compute"),
            interface=region.get_interface("compute"),
            region_name=region.get_region_name("compute"),
            endpoint_override=region.get_endpoint("compute"),
            min_version="2",
            max_version="2.latest",
        )

    def no_endpoint(self) -> NovaUnreachable:
        """Return the error for a catalogue without Nova."""
        region = self._region.get_region_name("compute") or "any"
        interface = self._region.get_interface("compute") or "any"
        return NovaUnreachable(
            f"cannot reach the Nova of {self.label}: Keystone's catalogue has no compute endpoint "
            f"(region {region}, interface {interface})"
        )

    def clean(self, text: object) -> str:
        """Return a text that others wrote, on one printable line, without the cloud's secrets."""
        clean = str(text)
        for secret in self._secrets():
            clean = clean.replace(secret, "…")
        return printable(re.sub(r"//[^/@\s]+@", "//", clean))

    def _secrets(self) -> list[str]:
        """Return the passwords of the cloud, and the token in use."""
        auth = self._region.config.get("auth") or {} if self._region is not None else {}
        found = [
            value for key, value in auth.items() if any(word in key.lower() for word in _SECRETS)
        ]
        access = getattr(getattr(self._session, "auth", None), "auth_ref", None)
        found.append(getattr(access, "auth_token", None))
        return [secret for secret in found if isinstance(secret, str) and len(secret) > 3]


class NovaSession:
    """A session with the Nova of one cloud. Threads share it after `open`.

    Args:
        cloud: its name in clouds.yaml; None: what OS_CLOUD or the OS_* variables name.
        timeout: seconds for each answer.
    """

    def __init__(self, cloud: str | None, timeout: float) -> None:
        self.timeout = timeout
        self.microversion: Microversion | None = None
        """None: Nova's API tells none, or there is no answer so far."""

        self._cloud = _Cloud(cloud, timeout)
        self._adapter: Any = None
        self._since: dict[int, float] = {}
        """By thread: when (monotonic) it began to wait for an answer."""

    @property
    def label(self) -> str:
        """The cloud's name in messages."""
        return self._cloud.label

    @property
    def tells_down_cells(self) -> bool:
        """Whether Nova tells of cells that are down."""
        return self.microversion is not None and self.microversion >= DOWN_CELLS

    def overdue(self) -> NovaLost | None:
        """Return the error of an answer that does not come in time; None: none is late.

        The threads that wait are given up with it.
        """
        late = time.monotonic() - self.timeout - GRACE
        if all(began > late for began in list(self._since.values())):
            return None
        self._since.clear()
        return self._no_answer()

    def open(self) -> None:
        """Read clouds.yaml, get a token and ask for the microversions.

        Later calls do nothing, unless Nova told no microversion: it may have failed just then.

        Raises:
            NovaFailure: the message says which of these failed, and why.
        """
        if self.microversion is not None:
            return
        self._begin()
        try:
            self._cloud.read()
            adapter = self._cloud.adapter()
            data = adapter.get_endpoint_data()
            newest = data and data.max_microversion
            self.microversion = (
                min((int(newest[0]), int(newest[1])), DOWN_CELLS) if newest else None
            )
            self._adapter = adapter if data else None
        except NovaFailure:
            raise
        except Exception as error:
            raise self._failure(error, f"cannot reach the Nova of {self.label}") from None
        finally:
            self._end()
        if self._adapter is None:
            raise self._cloud.no_endpoint()

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Answer:
        """Return the answer to a GET request, whatever its status, except 401 and redirects.

        Raises:
            NovaDenied: Nova refuses the token, and a new one as well.
            NovaLost: the answer did not come, or not completely, in time.
            NovaFailure: it is no JSON of Nova, or too large.

        Cost: one request; a new token if the old one has expired.
        """
        what = f"cannot ask the Nova of {self.label} for {path.partition('/')[2]}"
        end = self._begin()
        try:
            response = self._sent(path, params or {})
            if response.status_code == 401:
                response.close()
                self._adapter.invalidate()
                response = self._sent(path, params or {})
            try:
                return self._answer(response, what, end)
            finally:
                response.close()
        except NovaFailure:
            raise
        except Exception as error:
            raise self._failure(error, what) from None
        finally:
            self._end()

    def _sent(self, path: str, params: Mapping[str, str]) -> Any:
        """Return the beginning of an answer. keystoneauth would leave one of 401 open."""
        return self._adapter.get(
            path,
            params=dict(params),
            microversion=self.microversion and ".".join(map(str, self.microversion)),
            headers={"Accept": "application/json"},
            raise_exc=False,
            redirect=False,
            allow_reauth=False,
            stream=True,
            timeout=self.timeout,
        )

    def refusal(self, answer: Answer, asked: str) -> NovaFailure:
        """Return the error of an answer whose status says that Nova did not do it.

        Args:
            answer: the answer.
            asked: completes "cannot …".
        """
        kind = NovaDenied if answer.status in (401, 403) else NovaFailure
        remedy = "; use a cloud whose user is an administrator" if answer.status == 403 else ""
        return kind(
            f"cannot {asked} of the Nova of {self.label}: HTTP {answer.status}"
            f"{self._quoted(answer.body)}{remedy}"
        )

    # Time

    def _begin(self) -> float:
        """Note that this thread waits for an answer; return by when it must be complete."""
        now = self._since[threading.get_ident()] = time.monotonic()
        return now + self.timeout

    def _end(self) -> None:
        self._since.pop(threading.get_ident(), None)

    def _no_answer(self) -> NovaLost:
        return NovaLost(
            f"no complete answer from the Nova of {self.label} within {self.timeout:g} s; ask "
            "again with a longer timeout"
        )

    # An answer

    def _answer(self, response: Any, what: str, end: float) -> Answer:
        status = response.status_code
        if 300 <= status < 400:
            place = urlsplit(response.headers.get("Location", ""))
            to = self._cloud.clean(f"{place.scheme}://{place.hostname}")
            raise NovaFailure(
                f"{what}: it redirects (HTTP {status}) to {to}, and guestlist sends its token "
                "nowhere else; correct the endpoint in the catalogue"
            )
        content = self._content(response, what, end)
        body: object = None
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            if status == 200:
                kind = self._cloud.clean(response.headers.get("Content-Type", "no type"))
                raise NovaFailure(
                    f"{what}: the answer is no JSON of Nova ({kind}): another program answers there"
                ) from None
        if status == 401:
            raise NovaDenied(
                f"{what}: it refuses the token, and a new one as well (HTTP 401)"
                f"{self._quoted(body)}"
            )
        if status == 200 and not isinstance(body, dict):
            raise NovaFailure(f"{what}: the answer is JSON, but not Nova's")
        return Answer(status, body if isinstance(body, dict) else {})

    def _content(self, response: Any, what: str, end: float) -> bytes:
        """Return the body of an answer, bounded in time and size."""
        chunks: list[bytes] = []
        size = 0
        for chunk in response.iter_content(_CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if size > MOST_BYTES:
                raise NovaFailure(f"{what}: the answer has more than {MOST_BYTES:,} bytes")
            if time.monotonic() > end:
                raise self._no_answer()
        return b"".join(chunks)

    # What went wrong

    def _failure(self, error: Exception, what: str) -> NovaFailure:
        """Return the error for what openstacksdk, keystoneauth or requests raised."""
        said = self._cloud.clean(_reason(str(error)))
        kind: type[NovaFailure] = NovaUnreachable
        match error:
            case told.Unauthorized():
                kind, said = NovaDenied, "Keystone refuses the credentials (HTTP 401)"
            case told.Forbidden():
                kind, said = NovaDenied, "Keystone refuses (HTTP 403)"
            case told.EndpointNotFound() | told.CatalogException():
                return self._cloud.no_endpoint()
            case told.ClientException() if "timed out" in said:
                return self._no_answer()
            case told.ConnectFailure() if "Connection aborted" in said:
                kind, said = NovaLost, "the connection was closed before the answer"
            case told.HttpError():
                kind, said = NovaFailure, f"Keystone answers HTTP {error.http_status}"
            case told.ClientException() | openstack.exceptions.SDKException():
                pass
            case OSError():  # requests': the body broke off
                kind, said = NovaLost, "the connection was lost before the answer was complete"
            case _:
                kind, said = NovaFailure, f"{type(error).__name__}: {said}"
        return kind(f"{what}: {said}")

    def _quoted(self, body: object) -> str:
        """Return Nova's own message in a body, with a colon before it; "" if it has none."""
        errors = list(body.values()) if isinstance(body, dict) else []
        if errors and isinstance(errors[0], dict) and "message" in errors[0]:
            return f": {self._cloud.clean(errors[0]['message']).rstrip('.')}"
        return ""


def _reason(said: str) -> str:
    """Return what requests, or keystoneauth after it, says in many words, in few."""
    place = _PLACE.search(said)
    if place and (words := _TLS.search(said)):
        why = words[0].strip()
        return f"no TLS with {place[0]}: {why}; 'cacert' in clouds.yaml names the authority"
    if place and (words := _REFUSED.search(said)):
        return f"no connection to {place[0]}: {words[1]}"
    return said

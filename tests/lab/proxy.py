"""A proxy in front of a daemon's socket: it counts calls on the wire, and causes faults on demand.

In: connections of libvirt clients, to its own socket. Out: the same messages, to and from the
daemon; the names of the calls, in order; and the faults that a test asks for, on the procedures
that it names and on no other. `reset` ends all faults.

One thread serves all connections. Rewriting functions run in it; callbacks (`on_call`) run in
threads of their own, so a callback may use other connections of this proxy. Any error of either is
raised again when the context ends.

Does not pass on file descriptors, and does not speak TLS or SASL.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from lab.loop import Link, Loop
from lab.procedures import last_procedure, procedure_number, version_tuple
from lab.wire import (
    CALL,
    ERROR,
    EVENT,
    OK,
    REPLY,
    DomainHandle,
    Message,
    read_int,
    xdr_hyper,
    xdr_int,
    xdr_string,
)

_CODE_INTERNAL_ERROR, _CODE_INVALID_ARG, _CODE_RPC, _CODE_NO_DOMAIN = 1, 8, 39, 42
_FROM_RPC, _FROM_TEST, _FROM_REMOTE = 7, 12, 13

# Features a client asks the remote driver for, and the last procedure that came with each; event
# ids, and the procedure that is the event. Those not listed are older than anything played here.
_FEATURES = {12: 295, 13: 307, 14: 317, 15: 363, 16: 427}
_EVENTS = {13: 276, 14: 292, 15: 311, 16: 346, 17: 348, 18: 354, 19: 359, 20: 363, 21: 367}
_EVENTS |= {22: 379, 23: 385, 24: 423, 25: 438}
_REGISTRATIONS = {
    "CONNECT_DOMAIN_EVENT_REGISTER_ANY",
    "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY",
}
_FEW_NAMES, _MANY_NAMES_SINCE = 1024, 302  # listDefinedDomains before libvirt 1.1.0
_SAYS_GONE_SINCE = 345  # the test driver of 1.2.7 still says code 8

_ABOUT_ONE = (
    "DOMAIN_GET_STATE",
    "DOMAIN_GET_INFO",
    "DOMAIN_GET_XML_DESC",
    "DOMAIN_GET_METADATA",
)
"""Calls about one domain; if it is gone, a driver may answer them with a code of its own."""

Rewrite = Callable[[bytes], bytes]
_Proceed = Callable[[], None]
_Rule = Callable[[Link, Message, _Proceed], bool]  # True: the call needs nothing more


class Upstream(Protocol):
    """What is behind a proxy: a daemon, or another proxy."""

    @property
    def socket(self) -> str: ...
    @property
    def qemu_uri(self) -> str: ...
    def uri(self, node: str | Path = "default") -> str: ...


class Proxy:
    """A proxy in front of `upstream`; a context manager.

    Procedures are named as libvirt's protocol names them ("CONNECT_LIST_ALL_DOMAINS"); a name that
    does not exist is a KeyError. `times` limits a fault to that many calls. Any thread may call any
    method; it has an effect from the next message on.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._calls: list[str] = []
        self._called = threading.Condition()
        self._errors: list[BaseException] = []
        self._held: list[_Proceed] = []
        self._faults = _Faults()

    def __enter__(self) -> Self:
        self._directory = tempfile.mkdtemp(prefix="gl-", dir="/tmp")
        self._loop = Loop(self.socket, self._upstream.socket, self)
        self._loop.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._loop.finish()
        shutil.rmtree(self._directory, ignore_errors=True)
        if self._errors and error is None:
            raise self._errors[0]

    # Where it is

    @property
    def socket(self) -> str:
        """The path of its socket."""
        return f"{self._directory}/libvirt-sock"

    @property
    def qemu_uri(self) -> str:
        return self._upstream.qemu_uri.replace(self._upstream.socket, self.socket)

    def uri(self, node: str | Path = "default") -> str:
        """Return a URI like that of `Daemon.uri`, through this proxy."""
        return self._upstream.uri(node).replace(self._upstream.socket, self.socket)

    # What was called

    @property
    def calls(self) -> list[str]:
        """The names of all calls since the last `clear`, of all connections, in order of arrival.

        A call is counted before it is forwarded: a call that has returned is in the list.
        """
        with self._called:
            return list(self._calls)

    def clear(self) -> None:
        """Forget the calls so far."""
        with self._called:
            self._calls.clear()

    @contextlib.contextmanager
    def counting(self) -> Iterator[list[str]]:
        """Collect the calls made in this block; the list is complete when it ends."""
        with self._called:
            first = len(self._calls)
        calls: list[str] = []
        try:
            yield calls
        finally:
            with self._called:
                calls += self._calls[first:]

    def wait_called(self, procedure: str, times: int = 1, timeout: float = 30.0) -> None:
        """Return once `procedure` has been called `times` times since the last `clear`.

        Raises:
            TimeoutError: it was not.
        """
        procedure_number(procedure)
        with self._called:
            if not self._called.wait_for(lambda: self._calls.count(procedure) >= times, timeout):
                raise TimeoutError(f"{procedure} was not called {times} times: {self._calls}")

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return len(self._loop.links)

    @property
    def leaving(self) -> int:
        """How many clients are gone before the daemon has answered all their calls."""
        return len(self._loop.leaving)

    # An older, slower, or failing daemon

    def deny(self, *procedures: str, times: int | None = None) -> None:
        """Answer as a daemon that does not know these procedures; the connection stays.

        On the wire: VIR_ERR_RPC, "unknown procedure: n". The client library raises code 3.
        """
        for procedure in procedures:
            self._when(procedure, self._deny, times)

    def older_daemon(self, release: str) -> None:
        """Answer as libvirt of this release ("0.9.12") does, on connections opened from now on.

        Procedures, features and events that came later are denied, `listDefinedDomains` has its old
        limit of 1,024 names (before 1.1.0), and `getLibVersion` says `release`. The client then
        registers for events in the old way, and gets them. For a domain that is gone, the test
        driver before 1.2.8 answers code 8 (measured on 0.9.12 and 1.2.7), the QEMU driver code 42.
        """
        major, minor, micro = version_tuple(release)
        number = major * 1_000_000 + minor * 1_000 + micro
        self._faults.last = last_procedure(release)
        self.rewrite("CONNECT_GET_LIB_VERSION", lambda _: xdr_hyper(number))
        if self._faults.last < _SAYS_GONE_SINCE:
            self.obscure_gone(_CODE_INVALID_ARG)

    def obscure_gone(self, code: int) -> None:
        """Answer state, info, XML and metadata of a domain that is gone with this code, not 42.

        Only errors of the test driver change. A look-up is answered 42, as on every driver.
        """
        self._faults.gone = code

    def hold(self, procedure: str, domain: str) -> None:
        """Let calls of this procedure about the domain of that name wait until `reset`.

        So does a daemon that waits for a guest's monitor: all other calls are answered, on the
        same connection too, and keepalive goes on.
        """
        carried = xdr_string(domain.encode())

        def keep(link: Link, call: Message, proceed: _Proceed) -> bool:
            if carried not in call.payload:
                return False
            self._held.append(proceed)
            return True

        self._when(procedure, keep)

    @property
    def held(self) -> int:
        """How many calls wait because of `hold`."""
        return len(self._held)

    def fail(
        self,
        procedure: str,
        code: int,
        domain: int = _FROM_TEST,
        message: str = "the laboratory says no",
        *,
        times: int | None = None,
    ) -> None:
        """Answer this procedure with a libvirt error (`VIR_ERR_*`, `VIR_FROM_*`)."""

        def answer(link: Link, call: Message, _: _Proceed) -> bool:
            return self._answer(link, call.answer_error(code, domain, message))

        self._when(procedure, answer, times)

    def refuse_flag(self, procedure: str, flag: int) -> None:
        """Answer as a daemon that does not know a flag of this procedure, its last argument."""

        def refuse(link: Link, call: Message, _: _Proceed) -> bool:
            text = f"unsupported flags (0x{flag:x})"
            return bool(read_int(call.payload, -4) & flag) and self._answer(
                link, call.answer_error(_CODE_INVALID_ARG, _FROM_TEST, text)
            )

        self._when(procedure, refuse)

    def delay(self, seconds: float, procedure: str | None = None) -> None:
        """Let replies arrive `seconds` later; calls that are in flight together wait together.

        With a procedure: its replies only. Without: everything that comes from the daemon, events
        and keepalive included, in order. Each round trip takes that much longer.
        """
        if procedure is None:
            self._faults.delay = seconds
        else:
            self._faults.delays[procedure_number(procedure)] = seconds

    # What replies say

    def rewrite(self, procedure: str, change: Rewrite) -> None:
        """Pass the payload of this procedure's successful replies (or of this event) through
        `change`.

        `lab.wire` makes the parts of a payload: a reply to DOMAIN_GET_XML_DESC is
        `xdr_string(xml)`.
        """
        self._faults.rewrites[procedure_number(procedure)].append(change)

    def set_id(self, domain: str | uuid.UUID, number: int) -> None:
        """Give a domain (by name, or by UUID) another id, as long as it is active.

        Everything that carries the domain or its id changes, and a look-up by that id finds it.
        With 0 it looks like Xen's Domain-0.
        """
        self._faults.disguises.append(_Disguise(DomainHandle(domain), number))

    def rename(self, old: str, new: bytes) -> None:
        """Give a domain another name, perhaps a hostile one, in all replies and events.

        Calls may use the new name. Inside XML (one long string) nothing changes: `rewrite`
        DOMAIN_GET_XML_DESC for that.
        """
        self._faults.names.append((xdr_string(old.encode()), xdr_string(new)))

    def cut(self, procedure: str, after_bytes: int = 10, *, times: int | None = None) -> None:
        """Send the first bytes of this procedure's reply, then close the connection."""
        self._faults.cuts[procedure_number(procedure)] = (after_bytes, _Budget(times))

    def swallow(self, event: str, *, times: int | None = None) -> None:
        """Send the clients no events of this kind ("DOMAIN_EVENT_CALLBACK_LIFECYCLE")."""
        self._faults.swallowed[procedure_number(event)] = _Budget(times)

    # Silence and broken connections

    def stall(self) -> None:
        """Accept connections, but read and send nothing, until `resume`."""
        self._loop.do(self._loop.stall)

    def resume(self) -> None:
        """End a stall: what waited is sent, in order."""
        self._loop.do(self._loop.resume)

    def stall_on(self, procedure: str, *, times: int | None = 1) -> None:
        """Begin a stall when this procedure is called; the call itself waits, too."""

        def stall(link: Link, call: Message, proceed: _Proceed) -> bool:
            self._loop.stall()
            self._loop.on_resume.append(proceed)
            return True

        self._when(procedure, stall, times)

    def drop(self) -> None:
        """Close all clients' connections at once; accept new ones.

        The connections to the daemon are closed after it has answered these clients' calls.
        """
        self._loop.do(self._loop.drop)

    def drop_on(self, procedure: str, *, times: int | None = 1) -> None:
        """Close the connection on which this procedure is called, instead of forwarding it."""

        def drop(link: Link, call: Message, _: _Proceed) -> bool:
            link.close()
            return True

        self._when(procedure, drop, times)

    def garbage(self, nonsense: bytes = b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(64)) -> None:
        """Answer the first message on each new connection with nonsense, and answer no other."""
        self._faults.nonsense = nonsense

    # Order

    def on_call(
        self, procedure: str, callback: Callable[[], object], *, times: int | None = None
    ) -> None:
        """Run `callback` when this procedure is called; forward the call when it returns.

        Other calls are served meanwhile, on the same connection too.
        """

        def run(proceed: _Proceed) -> None:
            try:
                callback()
            except BaseException as error:  # raised again when the context ends
                self._errors.append(error)
            self._loop.do(proceed, wait=False)

        def hold(link: Link, call: Message, proceed: _Proceed) -> bool:
            threading.Thread(target=run, args=(proceed,), daemon=True).start()
            return True

        self._when(procedure, hold, times)

    def reset(self) -> None:
        """End all faults, a stall included. Recorded calls and connections stay."""
        self._faults = _Faults()
        self._loop.do(self._let_go)
        self._loop.do(self._loop.resume)

    # What the loop calls for each message

    def nonsense(self) -> bytes | None:
        return self._faults.nonsense

    def failed(self, error: BaseException) -> None:
        self._errors.append(error)

    def from_client(self, link: Link, frame: bytes) -> None:
        message = Message.decode(frame)
        if not message.remote or message.type != CALL:
            link.far.send(frame)
            return
        with self._called:
            self._calls.append(message.name)
            self._called.notify_all()
        for old, new in self._faults.names:
            message = message.carrying(message.payload.replace(new, old))
        self._proceed(link, message, self._rules_of(message))

    def from_daemon(self, link: Link, frame: bytes) -> None:
        message = Message.decode(frame)
        if message.type == REPLY and link.asked(message):
            return
        if message.type == EVENT and message.remote and self._is_swallowed(message):
            return
        if self._faults.gone is not None and message.status == ERROR:
            frame = self._obscured(message, self._faults.gone).encode()
        if not message.remote or message.status != OK:
            link.near.send_later(frame, self._delay_of(message))
        elif self._faults.disguises and message.name == "CONNECT_LIST_DOMAINS":
            self._disguise_ids(link, message, list(self._faults.disguises))
        else:
            self._answer(link, self._changed(message))

    # Calls

    def _when(self, procedure: str, rule: _Rule, times: int | None = None) -> None:
        budget = _Budget(times)

        def limited(link: Link, call: Message, proceed: _Proceed) -> bool:
            return budget.take() and rule(link, call, proceed)

        self._faults.rules[procedure_number(procedure)].append(limited)

    def _rules_of(self, call: Message) -> Iterator[_Rule]:
        if self._faults.last is not None:
            yield self._old
        yield from self._faults.rules.get(call.procedure, ())
        if call.name == "DOMAIN_LOOKUP_BY_ID":
            yield from (disguise.undo for disguise in self._faults.disguises)

    def _proceed(self, link: Link, call: Message, rules: Iterator[_Rule]) -> None:
        """Apply rules until one handles the call; if none does, forward it.

        A rule may keep the call and continue with the next rule later: that is its `proceed`.
        """
        if link.closed:
            return
        proceed = functools.partial(self._proceed, link, call, rules)
        for rule in rules:
            if rule(link, call, proceed):
                return
        link.far.send(call.encode())

    def _deny(self, link: Link, call: Message, _: _Proceed) -> bool:
        text = f"unknown procedure: {call.procedure}"
        return self._answer(link, call.answer_error(_CODE_RPC, _FROM_RPC, text))

    def _old(self, link: Link, call: Message, proceed: _Proceed) -> bool:
        """Return the procedures that a daemon denies if it knows none above `last`."""
        last = self._faults.last or 0
        if call.procedure > last:
            return self._deny(link, call, proceed)
        argument = read_int(call.payload) if len(call.payload) >= 4 else 0
        match call.name:
            case "CONNECT_SUPPORTS_FEATURE" if _FEATURES.get(argument, 0) > last:
                return self._answer(link, call.answer(xdr_int(0)))
            case _ if call.name in _REGISTRATIONS and _EVENTS.get(argument, 0) > last:
                text = f"internal error: unsupported event ID {argument}"
            case "CONNECT_LIST_DEFINED_DOMAINS" if (
                argument > _FEW_NAMES and last < _MANY_NAMES_SINCE
            ):
                text = "internal error: maxnames > REMOTE_DOMAIN_NAME_LIST_MAX"
            case _:
                return False
        return self._answer(link, call.answer_error(_CODE_INTERNAL_ERROR, _FROM_REMOTE, text))

    def _let_go(self) -> None:
        held, self._held = self._held, []
        for proceed in held:
            proceed()

    # Replies and events

    def _obscured(self, reply: Message, code: int) -> Message:
        """Replace "no domain" by what older drivers answer; return any other error as it is."""
        said = read_int(reply.payload), read_int(reply.payload, 4)
        if reply.name not in _ABOUT_ONE or said != (_CODE_NO_DOMAIN, _FROM_TEST):
            return reply
        return reply.answer_error(code, _FROM_TEST, "invalid argument: the domain is not here")

    def _is_swallowed(self, event: Message) -> bool:
        budget = self._faults.swallowed.get(event.procedure)
        return budget is not None and budget.take()

    def _changed(self, message: Message) -> Message:
        rewrites = self._faults.rewrites.get(message.procedure, ())
        if not (rewrites or self._faults.names or self._faults.disguises):
            return message
        payload = message.payload
        for disguise in self._faults.disguises:
            payload = disguise.handle.with_id(payload, disguise.number)
        for old, new in self._faults.names:
            payload = payload.replace(old, new)
        for change in rewrites:
            payload = change(payload)
        return message.carrying(payload)

    def _disguise_ids(self, link: Link, reply: Message, left: list[_Disguise]) -> None:
        """Replace ids in a list of ids, after asking for each domain's real id."""
        if not left:
            self._answer(link, self._changed(reply))
            return
        disguise = left.pop()

        def then(real: int | None) -> None:
            count, *ids = (reply.payload[at : at + 4] for at in range(0, len(reply.payload), 4))
            if real is not None:
                shown = {xdr_int(real): xdr_int(disguise.number)}
                ids = [shown.get(number, number) for number in ids]
            self._disguise_ids(link, reply.carrying(b"".join([count, *ids])), left)

        disguise.ask(link, reply, then)

    def _answer(self, link: Link, message: Message) -> bool:
        """Send a reply or an event to the client: late, cut short, or unchanged."""
        frame, delay = message.encode(), self._delay_of(message)
        cut = self._faults.cuts.get(message.procedure) if message.type == REPLY else None
        if cut and cut[1].take():
            link.near.send_later(frame[: cut[0]], delay, then_close=True)
        else:
            link.near.send_later(frame, delay)
        return True

    def _delay_of(self, message: Message) -> float:
        if message.remote and message.type == REPLY:
            return max(self._faults.delay, self._faults.delays.get(message.procedure, 0.0))
        return self._faults.delay


@contextlib.contextmanager
def as_of(upstream: Upstream, release: str | None) -> Iterator[str]:
    """Give the URI of `test:///default` as libvirt of this release serves it; None: unchanged."""
    if release is None:
        yield upstream.uri()
        return
    with Proxy(upstream) as proxy:
        proxy.older_daemon(release)
        yield proxy.uri()


class _Budget:
    """How often a fault may still occur."""

    def __init__(self, times: int | None) -> None:
        self._left = times

    def take(self) -> bool:
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0


class _Disguise:
    """A domain, and the id that it is shown with."""

    def __init__(self, handle: DomainHandle, number: int) -> None:
        self.handle = handle
        self.number = number

    def undo(self, link: Link, call: Message, proceed: _Proceed) -> bool:
        """Turn a look-up by the shown id into a look-up by the real id."""
        if read_int(call.payload) != self.number:
            return False

        def then(real: int | None) -> None:
            found = call if real is None else call.carrying(xdr_int(real))
            link.far.send(found.encode())

        self.ask(link, call, then)
        return True

    def ask(self, link: Link, like: Message, then: Callable[[int | None], None]) -> None:
        """Ask the daemon, on this client's connection, for the domain's real id, if it has one."""
        domain = self.handle.domain
        name, payload = (
            ("DOMAIN_LOOKUP_BY_UUID", domain.bytes)
            if isinstance(domain, uuid.UUID)
            else ("DOMAIN_LOOKUP_BY_NAME", xdr_string(domain.encode()))
        )

        def answered(reply: Message) -> None:
            number = read_int(reply.payload, -4) if reply.status == OK else -1
            then(number if number >= 0 else None)

        link.ask(
            Message(like.program, like.version, procedure_number(name), CALL, 0, OK, payload),
            answered,
        )


@dataclass
class _Faults:
    """All faults in force. `reset` replaces this object; faults are added while it is in use."""

    rules: defaultdict[int, list[_Rule]] = field(default_factory=lambda: defaultdict(list))
    rewrites: defaultdict[int, list[Rewrite]] = field(default_factory=lambda: defaultdict(list))
    cuts: dict[int, tuple[int, _Budget]] = field(default_factory=dict)
    swallowed: dict[int, _Budget] = field(default_factory=dict)
    delays: dict[int, float] = field(default_factory=dict)
    delay: float = 0.0
    disguises: list[_Disguise] = field(default_factory=list)
    names: list[tuple[bytes, bytes]] = field(default_factory=list)
    last: int | None = None
    gone: int | None = None
    nonsense: bytes | None = None

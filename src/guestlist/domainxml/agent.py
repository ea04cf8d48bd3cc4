"""Whether a guest's agent is connected: the state of its `<channel>`.

In: the channels of an active domain. Out: whether the agent has opened the channel that is named
after it; None where there is no such channel, or where the XML does not tell. Asks no agent.

Source: libvirt src/qemu/qemu_domain.c (qemuFindAgentConfig: the first channel of that name);
src/conf/domain_conf.c (virDomainChrTargetDefFormat: the state, of an active domain only).
"""

from __future__ import annotations

from collections.abc import Iterable

from lxml import etree

from guestlist.domainxml.values import Unknown, first

_NAME = "org.qemu.guest_agent.0"
_STATES = {"connected": True, "disconnected": False}


def agent_connected(channels: Iterable[etree._Element], unknown: Unknown) -> bool | None:
    """Return what the first channel of the agent's name says."""
    for channel in channels:
        target = first(channel, "target")
        if target is not None and target.get("name") == _NAME:
            state = target.get("state")
            if state is not None and state not in _STATES:
                unknown.add("agent: state")
            return _STATES.get(state or "")
    return None

"""How long a difference has to last before an audit is certain of it.

Stands alone so that the command can show it in its help without loading what makes an audit.
"""

SETTLE = 20.0
"""Seconds for which some differences have to last (`rule`, A3). Nova's driver waits 15 s before it
believes that a guest has stopped (nova/virt/libvirt/host.py, `_event_emit_delayed`)."""

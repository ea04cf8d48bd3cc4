"""The exporter: what Prometheus sees of a libvirt host.

lane   what guests themselves tell: own connections, interval and deadline
"""

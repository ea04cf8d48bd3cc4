"""The Prometheus exporter: what a libvirt host is, and what its guests use, as metrics."""

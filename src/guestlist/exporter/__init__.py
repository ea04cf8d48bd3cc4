"""The exporter: what Prometheus sees of a libvirt host.

exposition  the text format                                                     (pure)
events      counters of events, and when a domain last had a fault
jobs        jobs of guests: migrations under way, and what completed jobs took
incoming    guests that migrate here and do not run here yet
job_calls   questions about jobs, over a connection of their own
histogram   a Prometheus histogram                                              (pure)
by_domain   what is kept of domains until they are gone                         (pure)
"""

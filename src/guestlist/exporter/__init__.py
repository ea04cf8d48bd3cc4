"""The exporter: what Prometheus sees of a libvirt host.

In: a host. Out: the text exposition, and a server for it. A value that is not known has no sample:
absent, never 0. No counter falls. No guest delays a scrape, and no scrape asks a guest.

    collectors        what can be switched on and off                                   (pure)
    families          every metric family                                               (pure)
    exposition        Prometheus's text format                                          (pure)
    labels            the labels of a guest and of its devices                          (pure)
    from_xml          a domain's record and XML to samples                              (pure)
    from_statistics   libvirt's statistics to samples: the table of keys                (pure)
    guests            what is kept of each guest between two scrapes                    (pure)
    current           the call at each scrape: states and network interfaces
    lane              what guests themselves tell: own connection, interval and deadline
    events            counters of events, and when a domain last had a fault
    jobs              migrations that are under way, and what completed jobs took
    incoming          guests that migrate here and do not run here yet
    job_calls         questions about jobs, over a connection of their own
    histogram         a Prometheus histogram                                            (pure)
    by_domain         what is kept of domains until they are gone                       (pure)
    pools             storage pools
    own               the exporter itself
    targets           the names of hosts for /probe, from a file
    web               the server: HTTP, TLS, users
    scrape            HostExporter: one host, and the body of a scrape
"""

"""The audit: what libvirt runs and what Nova believes, compared without a false alarm.

In: looks at hosts and looks at Nova, with their times. Out: findings, each certain or possible.
Changes nothing, on no side.

    rows            a look at a host, a look at Nova: frozen values                         (pure)
    findings        a finding, its kind and its certainty; the result of an audit           (pure)
    rule            rounds of looks -> findings: the promises A1, A2, …                     (pure)
    differences     what differs in one look at each side, and what could explain it        (pure)
    expected        what Nova's record of a server lets one expect of its domain            (pure)
    names           which host Nova means by a name                                         (pure)
    words           the sentences and facts of a finding                                    (pure)
    rounds          one audit from its first look to its last
    settle          how long a difference must last before it can be certain
    servers_file    the JSON of `openstack server list`, or of the API -> a look at Nova    (pure)
    nova_api        a live Nova: all servers, page by page, or some by id
    nova_session    one session with Nova's API through openstacksdk: token, JSON, failures
    api_rows        rows of Nova's API -> servers, migrations, request ids                  (pure)
    host_looks      the hosts, asked side by side; disks and taps of this machine
    this_machine    which hosts are this machine
    disks_gone      disks whose file or device is not on this machine any more
    taps            tap devices of this machine without a domain
"""

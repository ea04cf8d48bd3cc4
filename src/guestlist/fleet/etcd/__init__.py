"""A client of etcd: the part of its API that the fleet needs, over gRPC.

In: keys, values, ranges. Out: values; what changes, in order; errors of a small tree. Knows nothing
of domains, hosts or the fleet's layout. These modules alone import grpc and google.protobuf, which
the extra `guestlist[fleet]` brings. Only `guestlist agent` and `guestlist fleet` use them: grpc
works neither in a forked child of a process that has used it, nor under eventlet or gevent, and
`Etcd` refuses both.

    span         a range of keys                                                              (pure)
    endpoints    the addresses of members, TLS, a login                                       (pure)
    errors       what can go wrong                                                            (pure)
    messages     etcd's messages, declared in a descriptor pool of guestlist's own, and its calls
    failures     which answer of gRPC means which error
    refusals     why TLS with a member fails, by a look of its own
    channels     gRPC's channels, with the certificates that the files have then
    connection   Etcd: calls with a deadline, the next member after a failure, the token of a login
    kv           reads at one revision, writes, transactions, compaction
    stream       one stream of requests and answers, until it ends
    lease        leases, and keeping one alive
    watch_stream one stream of changes, until it ends
    watch        changes from a revision on, over as many streams as it takes
    auth         users, roles and their rights
    maintenance  members, their state, alarms

Source: etcd's published API, api/etcdserverpb/rpc.proto, api/mvccpb/kv.proto, api/authpb/auth.proto
and the texts of its errors, api/v3rpc/rpctypes/error.go (3.4 to 3.6).
"""

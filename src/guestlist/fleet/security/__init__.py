"""Whether an etcd keeps each host of a fleet to its own keys: found out by trying.

In: the members of an etcd, and the credentials of one host's agent. Out: the holes that are open,
each with what it means and what closes it; and the checks that could not be made. No version is
compared: a distribution may have repaired an older one. Writes nothing, and leaves nothing behind.

    findings    the holes by their names, and what a check found                            (pure)
    credentials who a client is, and how else it may be asked
    tries       each attempt at one member
    metrics     the numbers that a member shows over HTTP
    checking    all attempts at all members
    trial       a user that exists for one check
"""

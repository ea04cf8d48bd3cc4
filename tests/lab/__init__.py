"""The laboratory: a real libvirt to test against, and ways to make it misbehave.

    daemon     a private libvirtd, run without privileges, gone without a trace
    nodes      hosts to serve from it: node XML for libvirt's test driver
    proxy      a man in the middle: counts calls on the wire, plays old, slow, deaf or broken
    churn      somebody else who changes domains while you list them
    qemu       a few real guests, 16 MiB each, paused
    images     disks for them, with something in them
    per_domain the questions of a compute driver, asked domain by domain
    fake       a connection without libvirt behind it, checked against the real ones; its handles
               (fake_domain), its host (fake_host) and its events (fake_mail)
    command    the command `guestlist` as a process, and hosts to give it; `watch` while it runs
               (watching), on a pseudo-terminal (terminal), with hostile names (hostile), and the
               schemas that its JSON keeps (schemas)
    fixtures   all this as pytest fixtures; the only module here that knows pytest

Nothing here touches the libvirt of the machine it runs on.
"""

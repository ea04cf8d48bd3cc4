"""The laboratory: a real libvirt to test against, and ways to make it misbehave.

    daemon     a private libvirtd, run without privileges, gone without a trace
    nodes      hosts to serve from it: node XML for libvirt's test driver
    proxy      a proxy in front of a daemon: counts calls, and plays an old, slow or broken daemon
    churn      a process that changes domains while a test lists them
    qemu       a few real guests, 16 MiB each, paused
    images     disks for these guests, with data in them
    per_domain the questions of a compute driver, asked domain by domain
    fake       a connection without libvirt behind it, checked against the real ones; its handles
               (fake_domain), its host (fake_host) and its events (fake_mail)
    command    the command `guestlist` as a process, and hosts to give it; `watch` while it runs
               (watching), on a pseudo-terminal (terminal), with hostile names (hostile), and the
               schemas that its JSON keeps (schemas)
    etcd       real etcds of one member or three, with a relay before each (relay)
    nova       a released Nova's driver as a process (nova_nursery, nova_service, nova_layouts)
    needs      which test needs what, and the run without daemon, QEMU and Nova (quick)
    fixtures   all this as pytest fixtures

Nothing here touches the libvirt of the machine it runs on.
"""

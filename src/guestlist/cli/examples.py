"""What --help shows below the options: examples to learn them from, and what they do not show.

In: nothing. Out: text, command by command. Each example is tried by the tests.
"""

from __future__ import annotations

TOP = """\
examples:
  guestlist ls                 the running guests that Nova launched on this host
  guestlist ls -a              every domain: shut off, launched by others, Domain-0
  guestlist ls -a -f json      the same for a program
  guestlist usage              what they use of it: vCPUs, memory, disks
  guestlist watch              what happens to them, as it happens
  guestlist check              what this libvirt can do, and what to upgrade
  guestlist ls --help          more about listing, with examples

  source <(guestlist completion bash)      completion in this shell
"""

_CSV = """\
In CSV an apostrophe stands before a text that a spreadsheet would compute (its first
character that is not a blank is = + - @ or '), and likewise after each semicolon in
it. Numbers have none. To undo it take away the apostrophe at the
beginning and those after a semicolon, then the escapes; --raw writes neither.
"""

LS = (
    """\
examples:
  guestlist ls
      the running guests that Nova launched on this host
  guestlist ls --inactive
      those that are shut off as well
  guestlist ls -a -c test:///default
      every domain of libvirt's built-in test host, which needs no daemon
  guestlist ls -c qemu+ssh://node1/system -c qemu+ssh://node2/system
      two hosts, asked at the same time
  guestlist ls -f uuid | xargs -r -n 1 virsh dominfo
      a command for each
  guestlist ls -q0 | xargs -r -0 -I NAME virsh dominfo --domain NAME
      by name, whatever it holds: blanks, quotes, a leading '-'
  guestlist ls -a --columns name,launcher --sort launcher
      who launched what
  guestlist ls -l
      with vCPUs, memory, disks, addresses, owner, flavor and age
  guestlist ls --columns nova_name,project,memory_mib --sort memory_mib --reverse
      the largest first
  guestlist ls -a -l --live
      the table on the screen, kept as it is on the host
  guestlist ls --inactive -l -f json | jq -r '.[] | select(.project == "shop") | .uuid'
      the guests of a project
  guestlist ls --inactive -f csv > guests.csv
      for a spreadsheet, which takes no name for a formula
  guestlist ls --inactive -f csv --raw | my-program
      for a program, which wants exact values
  guestlist ls --name-template 'vm-%(uuid)s'
      where nova.conf has another instance_name_template

A control or bidirectional character in a name is shown as an escape (\\x1b,
\\u202e), and a backslash as two; JSON, YAML, --raw and -0 carry the exact name. What
is not known is '-' in a table, null in JSON, and sorted last. The keys of JSON are
those of --columns help; docs/schemas/ls.schema.json in guestlist's source has them
all.

"""
    + _CSV
)

USAGE = (
    """\
examples:
  guestlist usage
      what each guest of Nova's uses of this host, and all of them together
  guestlist usage -a -c test:///default
      of libvirt's built-in test host, those that others launched as well
  guestlist usage --sort disk_over_committed_bytes --reverse
      whose disks may grow most, first
  guestlist usage -c qemu+ssh://node1/system -c qemu+ssh://node2/system
      two hosts, each with its total
  guestlist usage -f json | jq '.[].total.memory_kib'
      for a program, in exact numbers
  guestlist usage -f csv > usage.csv
      for a spreadsheet: no totals

vCPUs, memory and block devices are those of active guests; disks are those of all.
What is not known counts as nothing and is said on standard error; JSON names each
under 'unknown'. Images are measured on this machine only: of disks on a network or
of another host no size is known. docs/schemas/usage.schema.json in guestlist's
source has the keys of JSON.

"""
    + _CSV
)

WATCH = """\
examples:
  guestlist watch
      what happens to the guests that Nova launched on this host, a line each
  guestlist watch -a -c test:///default
      to every domain of libvirt's built-in test host
  guestlist watch -c qemu+ssh://node1/system -c qemu+ssh://node2/system
      to those of two hosts
  guestlist watch --once -a
      who is there now, in the same form, and no more
  guestlist watch -f json | jq -r 'select(.change == "stopped") | .uuid'
      an object a line, for a program
  guestlist watch | grep -m 1 'instance-0000002a  stopped'
      until that has happened

A host that cannot be asked is tried again without end; what has changed meanwhile
is told when it is back, followed by 'back in step'. Why something happened is said
in libvirt's words, 'stopped (destroyed)'. 'gone': it disappeared and libvirt sent no
event. What comes and goes faster than it can be looked at is one line, or none. Times
are those of this machine: TZ=UTC guestlist watch for others.
docs/schemas/watch.schema.json in guestlist's source has the keys of JSON; it refers
to ls.schema.json beside it.
"""

CHECK = """\
examples:
  guestlist check
  guestlist check -c qemu+ssh://node1/system -c qemu+ssh://node2/system -f json

The exit status is 0 also where there is something to upgrade: the listing works
without, in more calls.
"""

COMPLETION = """\
examples:
  source <(guestlist completion bash)
      in this shell
  guestlist completion bash > ~/.local/share/bash-completion/completions/guestlist
      in every bash from now on
  guestlist completion zsh > "${fpath[1]}/_guestlist"
      in every zsh from now on
"""

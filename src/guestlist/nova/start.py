"""nova-compute where Nova and guestlist are installed in different directories.

In: the arguments of nova-compute. Out: nova-compute, which finds guestlist's driver by its name,
and its own configuration (nova-compute.conf) by that of the program.
Not needed where both share a site-packages: there `nova/virt/guestlist` lies beside Nova's drivers.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Run nova-compute. Nova comes first: it decides on green threads when it is imported."""
    import nova.cmd.compute  # noqa: PLC0415
    import nova.virt  # noqa: PLC0415

    nova.virt.__path__.append(str(Path(__file__).parents[2] / "nova" / "virt"))
    sys.argv[0] = str(Path(sys.argv[0]).with_name("nova-compute"))
    nova.cmd.compute.main()

"""`python -m guestlist` is the command `guestlist`."""

from guestlist.cli import main

raise SystemExit(main())

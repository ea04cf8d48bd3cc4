"""`python -m guestlist` is the command `guestlist`."""

from guestlist.cli import command

command()

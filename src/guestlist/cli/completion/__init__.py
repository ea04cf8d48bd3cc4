"""`guestlist completion`: its options. `run` makes the script."""

from __future__ import annotations

import argparse

ABOUT = "print a script for bash or zsh"

EXAMPLES = """\
examples:
  source <(guestlist completion bash)
      in this shell
  mkdir -p ~/.local/share/bash-completion/completions
  guestlist completion bash > ~/.local/share/bash-completion/completions/guestlist
      in every new bash
  guestlist completion zsh > "${fpath[1]}/_guestlist"
      in every new zsh
"""


def add_options(completion: argparse.ArgumentParser) -> None:
    """Add the options of `completion`."""
    completion.add_argument("shell", choices=("bash", "zsh"), help="the shell to make it for")

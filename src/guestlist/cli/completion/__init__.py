"""`guestlist completion`: its options, and how the command answers a shell.

In: the parser of the command. Out: the same, with the options of `completion`.

    run          prints the code that a shell needs, once
    answers      completes the line that a shell hands over, each time
    completers   the values that complete an argument: names of domains, hosts, columns, files
"""

from __future__ import annotations

import argparse

ABOUT = "print the code for completion in bash, zsh or fish"

SHELLS = ("bash", "zsh", "fish")

EXAMPLES = """\
examples:
  source <(guestlist completion bash)
      in this shell: bash; zsh likewise, after 'autoload -Uz compinit && compinit'
  mkdir -p ~/.local/share/bash-completion/completions
  guestlist completion bash > ~/.local/share/bash-completion/completions/guestlist
      in every new bash that has the package bash-completion
  mkdir -p ~/.zfunc
  guestlist completion zsh > ~/.zfunc/_guestlist
      in every new zsh whose ~/.zshrc has the lines 'fpath=(~/.zfunc $fpath)' and
      'autoload -Uz compinit && compinit'
  mkdir -p ~/.config/fish/completions
  guestlist completion fish > ~/.config/fish/completions/guestlist.fish
      in every new fish

The shell then asks guestlist itself what may follow: options, their values, hosts. For the
name of a domain guestlist asks the hosts of -c, or the default host, for at most two seconds.
"""


def add_options(completion: argparse.ArgumentParser) -> None:
    """Add the options of `completion`."""
    completion.add_argument("shell", choices=SHELLS, help="the shell to make it for")

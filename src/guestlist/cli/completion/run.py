"""Print the code that teaches a shell to ask `guestlist` for completions.

In: the name of the shell. Out: its code, on standard output: argcomplete's for bash and fish. That
of zsh is here, since argcomplete's asks about the whole line, and not about one command of a
pipeline. Names no option: the shell asks for these when it needs them (`answers`).
"""

from __future__ import annotations

import argparse

from argcomplete.shell_integration import shellcode

from guestlist.cli.exits import Exit
from guestlist.cli.show import terminal

_ZSH = r"""#compdef guestlist
_guestlist() {
    [[ $PREFIX == \~* ]] && { _files; return; }
    local typed="${(j: :)words[1,CURRENT-1]} $QIPREFIX$PREFIX" line word
    local -a whole begun
    for line in "${(@f)$(COMP_LINE=$typed COMP_POINT=$#typed COMP_TYPE=9 \
            _ARGCOMPLETE=1 _ARGCOMPLETE_SHELL=fish \
            _ARGCOMPLETE_IFS=$'\n' _ARGCOMPLETE_DFS=$'\t' _ARGCOMPLETE_SUPPRESS_SPACE=1 \
            "${words[1]}" 8>&1 9>/dev/null 1>/dev/null 2>&1 </dev/null)}"; do
        [[ -n $line ]] || continue
        word="${${${line%%$'\t'*}//\\/\\\\}//:/\\:}"
        if [[ $word == *[=/] ]]; then
            begun+=("$word:${line#*$'\t'}")
        else
            whole+=("$word:${line#*$'\t'}")
        fi
    done
    local found=1
    (( $#whole )) && _describe -V guestlist whole && found=0
    (( $#begun )) && _describe -V guestlist begun -S '' && found=0
    return found
}
if [[ $zsh_eval_context == *func ]]; then
    _guestlist "$@"
else
    compdef _guestlist guestlist
fi
"""

_FISH_IN_HOME = """\
complete --command guestlist -n "string match -q '~*' -- (commandline -ct)" --force-files
"""


def run(options: argparse.Namespace) -> Exit:
    """Print the code for the shell asked for."""
    terminal.write(_code(options.shell))
    return Exit.OK


def _code(shell: str) -> str:
    if shell == "zsh":
        return _ZSH
    # Without argcomplete's "-o default": bash would offer files where guestlist offers nothing.
    code = shellcode(["guestlist"], shell=shell, complete_arguments=["-o", "nospace"])
    return code + _FISH_IN_HOME if shell == "fish" else code

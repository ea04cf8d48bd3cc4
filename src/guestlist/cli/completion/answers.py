"""Complete the line that a shell hands over.

In: the line and the place of the cursor, in the variables COMP_LINE and COMP_POINT, and a parser.
Out: what may stand there, on file descriptor 8, as argcomplete's code for the shells reads it. All
else is silent: a failure offers nothing. `guestlist.cli` imports this only where `_ARGCOMPLETE` is
in the environment.

An argument is completed by its `choices`, or by the function that it has as `completer`, or by what
its metavar says (`completers.BY_METAVAR`). Options are offered where nothing else can follow, and
after a `-`.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from argcomplete import CompletionFinder  # type: ignore[attr-defined]

from guestlist.cli import ending
from guestlist.cli.completion import completers

_Commands = argparse._SubParsersAction  # how argparse keeps what add_subparsers made

_CONTINUED = ("=", "/", ":", ",")
"""The last character of a word that is not complete."""

_is_special = re.compile(r"[^\w@%+=:,./-]").sub
_is_special_in_quotes = re.compile(r'[\\"`$!]').sub
_first_clause = re.compile(r"(?s)(.*?)(?:[;:.]\s.*| \(.*|[;:.])?").fullmatch


def answer(parser: argparse.ArgumentParser) -> NoReturn:
    """Print the completions and end the process."""
    for each in _parsers(parser):
        _shorten_help(each)
    by_metavar: Any = completers.by_metavar  # any function will do, its types say another class
    _Finder()(parser, exit_method=_leave, default_completer=by_metavar)
    _leave(1)  # argcomplete returns if no shell asks


class _Finder(CompletionFinder):
    """argcomplete's, with options only where they help, and every name quoted."""

    def collect_completions(self, *words: Any) -> list[str]:
        """Return what may follow; options only if nothing else may."""
        wanted, self.always_complete_options = self.always_complete_options, False
        found: list[str] = super().collect_completions(*words)
        if not found and wanted:
            self.always_complete_options = wanted
            found = super().collect_completions(*words)
        return found

    def quote_completions(
        self, completions: list[str], cword_prequote: str, last_wordbreak_pos: int | None
    ) -> list[str]:
        """Return the words as the shell takes them. fish and zsh quote them on their own.

        fish leaves a ~ unquoted, so a word that begins with one is not offered there.
        """
        if os.environ.get("_ARGCOMPLETE_SHELL") == "fish":
            return [each for each in completions if not each.startswith("~")]
        if cword_prequote == "'":
            return [each.replace("'", r"'\''") for each in completions]
        if cword_prequote == '"':
            return [_is_special_in_quotes(r"\\\g<0>", each) for each in completions]
        start = 0 if last_wordbreak_pos is None else last_wordbreak_pos + 1
        quoted = [_quoted(each, start) for each in completions]
        if self.append_space and len(quoted) == 1 and not quoted[0].endswith(_CONTINUED):
            return [f"{quoted[0]} "]
        return quoted


def _quoted(word: str, start: int) -> str:
    """Return a word from `start` on, with a backslash before what bash would not take as it is."""
    home = 2 if word.startswith("~/") else 0
    return word[start:home] + _is_special(r"\\\g<0>", word[max(start, home) :])


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, _Commands):
            for each in action.choices.values():
                yield from _parsers(each)


def _shorten_help(parser: argparse.ArgumentParser) -> None:
    """Leave the first clause of each help text: zsh and fish show it beside the word."""
    formatter = parser._get_formatter()
    for action in parser._actions:
        if action.help and action.help != argparse.SUPPRESS:
            clause = _first_clause(formatter._expand_help(action))
            action.help = clause[1] if clause else None


def _leave(status: int) -> NoReturn:
    ending.end_programs()  # of hosts that did not answer in time
    os._exit(status)

"""The links of the built site: each leads to a page that is there, and to an anchor on it.

In: the folder of a site. Out: each link that leads nowhere, with its page; the exit status is 1 if
there is one. Links to other sites are not followed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lxml import html

FOLLOWED = "//a/@href | //link/@href | //img/@src | //script/@src | //object/@data"


def broken(site: Path) -> Iterator[str]:
    """Yield each internal link of a site that leads nowhere, after its page."""
    pages = {path: html.parse(path).getroot() for path in sorted(site.rglob("*.html"))}
    anchors = {path: frozenset(page.xpath("//@id | //a/@name")) for path, page in pages.items()}
    for path, page in pages.items():
        for link in page.xpath(FOLLOWED):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.is_relative_to(site) or not target.is_file():
                yield f"{path.relative_to(site)}: {link}: there is no such page"
            elif anchor and target in anchors and anchor not in anchors[target]:
                yield f"{path.relative_to(site)}: {link}: there is no such place on that page"


def main() -> int:
    """Say which links of a site lead nowhere."""
    site = Path(sys.argv[1]).resolve()
    wrong = list(broken(site))
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

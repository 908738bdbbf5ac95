"""What a report's page may do: run its own script, show its own style, and nothing else.

Whatever a name from a manifest smuggles into the page, a browser neither runs it nor asks another
machine for it.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources

from markupsafe import Markup


@cache
def own(name: str) -> Markup:
    """A file of the page's, such as ``page.css``, as it stands in it."""
    text = (resources.files("weakseg.report") / name).read_text(encoding="utf-8")
    return Markup("\n" + text.replace("\r\n", "\n"))


def own_script() -> Markup:
    """The page's script: its tables, then its cases."""
    return Markup("").join((own("page.js"), own("cases.js")))


def source_hash(text: str) -> str:
    """The hash of an inline script or style, as a policy names it."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def page_policy() -> str:
    """The page's Content-Security-Policy.

    Script and style are known by their hash, pictures lie within the page. Attributes ``style`` are
    allowed, for the figures consist of them; a style can ask nobody for anything here. Browsers
    that do not know ``style-src-elem`` go by ``style-src``.
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {source_hash(own_script())}",
            "style-src 'unsafe-inline'",
            f"style-src-elem {source_hash(own('page.css'))}",
            "style-src-attr 'unsafe-inline'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )

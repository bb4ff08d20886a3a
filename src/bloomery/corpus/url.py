"""URL: which of them name the same page. This module does not fetch anything."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

# What a link says about where it was clicked, not about the page.
_CAMPAIGN = re.compile(
    r"(?:utm_\w+|gclid|dclid|gbraid|wbraid|fbclid|msclkid|yclid|igshid|mc_cid|mc_eid|_ga|_gl|_hsenc|_hsmi|ref|ref_src|"
    r"feed|spm)(?:=|\Z)",
    re.IGNORECASE,
)
_PORTS = {"http": 80, "https": 443}


def page_of(url: str) -> str:
    """A URL without scheme, www, the scheme's own port, campaign parameters, fragment and slash at its end.

    The host is in lower case; paths and other parameters are compared as they stand. "" for what is no URL of a page.
    """
    url = "".join(url.split())
    try:
        parts = urlsplit(url if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", url) else f"http://{url}")
        host, port = (parts.hostname or "").removeprefix("www.").rstrip("."), parts.port
    except ValueError:
        return ""
    if not host:
        return ""
    if port is not None and port != _PORTS.get(parts.scheme):
        host += f":{port}"
    query = "&".join(part for part in parts.query.split("&") if part and not _CAMPAIGN.match(part))
    # A fragment of "#!" is what old applications had in place of a path.
    fragment = f"#{parts.fragment}" if parts.fragment.startswith("!") else ""
    return host + parts.path.rstrip("/") + (f"?{query}" if query else "") + fragment

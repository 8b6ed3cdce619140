"""Addresses as a person gives them: what RFC 3986 allows stays to the byte, the rest is percent-encoded once."""

import re

_PARTS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)
_CHARACTERS = r"a-zA-Z0-9\-._~!$&'()*+,;=:"
_IN_USER, _IN_PATH, _IN_QUERY = (
    re.compile(rf"%(?![0-9a-fA-F]{{2}})|[^%{_CHARACTERS}{more}]") for more in ("", "@/", "@/?")
)


def encode_url(url: str) -> tuple[str, int]:
    """Return ``url`` without characters a URL cannot contain, and how many were percent-encoded (as UTF-8).

    Existing escapes stay as they are: a signed URL must arrive unchanged. A host is not touched. What is no URL at all,
    or contains blanks or control characters, is returned as it is.
    """
    parts = _PARTS.fullmatch(url)
    if parts is None or not url.isprintable() or " " in url:
        return url, 0
    scheme, authority, path, query, fragment = (part or "" for part in parts.groups())
    user, at, host = authority.rpartition("@")
    count = 0

    def encode(text: str, illegal: re.Pattern[str]) -> str:
        nonlocal count
        encoded, changed = illegal.subn(_escaped, text)
        count += changed
        return encoded

    encoded = f"{scheme}{encode(user, _IN_USER)}{at}{host}{encode(path, _IN_PATH)}"
    for part in (query, fragment):
        encoded += part[:1] + encode(part[1:], _IN_QUERY)
    return encoded, count


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "replace"))

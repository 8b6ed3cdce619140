"""Percent-encoding of URLs entered by people; characters that RFC 3986 allows are unchanged."""

import re

_PARTS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)
_CHARACTERS = r"a-zA-Z0-9\-._~!$&'()*+,;=:"
_IN_USER, _IN_PATH, _IN_QUERY = (
    re.compile(rf"%(?![0-9a-fA-F]{{2}})|[^%{_CHARACTERS}{more}]") for more in ("", "@/", "@/?")
)


def encode_url(url: str) -> tuple[str, int]:
    """Return ``url`` with the characters a URL must not contain percent-encoded (as UTF-8), and their number.

    Existing escapes and the host are unchanged, as a signed URL must arrive unaltered. Text that is not a URL, or
    contains spaces or control characters, is returned unchanged.
    """
    parts = _PARTS.fullmatch(url)
    if parts is None or not url.isprintable() or " " in url:
        return url, 0
    scheme, authority, path, query, fragment = (part or "" for part in parts.groups())
    # The last one counts, because a password may contain an @.
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

"""Texts of the status page: ages, and what a link's reason means."""

from collections.abc import Mapping

from process_cosmos_gateway.contract.destinations import LinkState, Priority, StorageState

_UNITS = ((86_400, "day", "days"), (3600, "hour", "hours"), (60, "minute", "minutes"))

PRIORITIES: Mapping[Priority, str] = {
    Priority.URGENT: "Alerts",
    Priority.CHANGE: "Device changes",
    Priority.READING: "Readings",
}

LINKS: Mapping[LinkState, str] = {
    LinkState.OFF: "off",
    LinkState.CONNECTED: "connected",
    LinkState.OFFLINE: "offline",
    LinkState.REFUSED: "needs attention",
}

REASONS: Mapping[str, str] = {
    "untried": "Nothing has been sent since the app started. No action is needed.",
    "unreachable": "The server cannot be reached. Check its address and the internet connection.",
    "name_unknown": "The host name is unknown. Check the address and the internet connection.",
    "timeout": "The server does not respond in time. Check the internet connection.",
    "connection_lost": "The connection was lost. Check the internet connection.",
    "malformed_reply": "The reply cannot be read. Check what answers at this address, and its version.",
    "reply_too_long": "The reply is too long to be read. Check what answers at this address, and its version.",
    "store_row_unreadable": "Its stored settings cannot be used. Enter them again in the integration, or remove it.",
    "store_failed": "This machine's disk cannot be written. Free some space and check the disk.",
    "redirect": "The server redirects to another address. Correct the address in the integration.",
    "url": "Its address or header is invalid. Correct them in the integration.",
    "not_a_receiver": "Another server replied. Log in to the network, or test the destination in the integration.",
    "certificate": "The server's certificate is not trusted. Correct the address or the certificate.",
    "tls": "The server does not support TLS correctly. Correct the address or the certificate.",
    "certificate_expired": "This site's certificate has expired. If it is not renewed, enrol again with a new code.",
    "certificate_refused": "This site's certificate is unknown there. Enrol again with a new code from its admin.",
    "certificate_revoked": "Its admin revoked this site's certificate. Ask why, then enrol again with a new code.",
    "certificate_superseded": "A newer certificate of this site is in use elsewhere. Enrol again with a new code.",
    "identity_mismatch": "Another server answers at this address. Correct the address, or find out which server it is.",
    "identity_conflict": "Two apps use this site's identity. Stop one, then enrol the other again with a new code.",
    "http_400": "The server does not accept the events. Correct the address in the integration.",
    "http_401": "The server does not accept the credentials. Correct the header, or enrol again.",
    "http_403": "The server denies access. Correct the header, or enrol again.",
    "http_404": "Nothing was found at this address. Correct the address in the integration.",
    "http_410": "This address is no longer in use. Correct the address in the integration.",
}

STORAGE: Mapping[StorageState, str] = {
    StorageState.OK: "All data is written to the disk.",
    StorageState.FULL: "The disk is full. Free some space: alerts have a reserve, the rest is dropped and counted.",
    StorageState.READ_ONLY: "The disk is read-only, so nothing can be saved. Check the disk, then restart the host.",
    StorageState.FAILING: "The disk reports errors. Make a backup and replace the disk.",
}


def reason(code: str) -> str:
    """Return the meaning of a link's ``reason`` code and what to do; empty if the code is unknown."""
    temporary = "The server reports a temporary error. Sending is retried automatically."
    return REASONS.get(code, temporary if code.startswith("http_") else "")


def age(seconds: float) -> str:
    """Return a duration in words, such as ``2 days``."""
    for length, one, many in _UNITS:
        if number := int(seconds // length):
            return f"{number} {one if number == 1 else many}"
    return "less than a minute"

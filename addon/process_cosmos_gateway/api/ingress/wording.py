"""What the status page says in words: ages, and why a link is down."""

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
    LinkState.REFUSED: "needs you",
}

REASONS: Mapping[str, str] = {
    "untried": "Nothing was sent since the app started. There is nothing to do.",
    "unreachable": "It cannot be reached. Look at its address and at the internet connection.",
    "name_unknown": "The name of its host is not known. Look at its address and at the internet connection.",
    "timeout": "It does not answer in time. Look at the internet connection.",
    "connection_lost": "The connection broke. Look at the internet connection.",
    "malformed_reply": "Its reply is none of a cloud endpoint. Look at the endpoint's version.",
    "reply_too_long": "Its reply is none of a cloud endpoint. Look at the endpoint's version.",
    "store_row_unreadable": "What is stored of it cannot be used. Set it anew in the integration, or remove it.",
    "store_failed": "This machine's disk refuses to write. Free some space, look at the health of the disk.",
    "redirect": "It sends us to another address. Correct its address in the integration.",
    "url": "No request can be made with its address and header. Correct them in the integration.",
    "not_a_receiver": "Something else replied. Log in to the network, or test the destination in the integration.",
    "certificate": "Its certificate is not to be trusted. Correct its address, or its certificate.",
    "tls": "It does not speak TLS as it should. Correct its address, or its certificate.",
    "certificate_expired": "This site's certificate is over. If it does not renew itself, enrol again with a new code.",
    "certificate_refused": "It does not know this site's certificate. Enrol again with a new code from its admin.",
    "certificate_revoked": "Its admin took this site's certificate back. Ask why, then enrol again with a new code.",
    "certificate_superseded": "A newer certificate of this site is in use elsewhere. Enrol again with a new code.",
    "identity_mismatch": "Another server answers there. Correct its address, or find out who answers.",
    "identity_conflict": "Two apps speak as this site. Stop one of them, then enrol the other again with a new code.",
}

_STATUSES: Mapping[str, str] = {
    "http_400": "It does not take what is sent there. Correct its address in the integration.",
    "http_401": "It does not know us. Correct the header, or enrol again.",
    "http_403": "It does not let us in. Correct the header, or enrol again.",
    "http_404": "Nothing is at its address. Correct the address in the integration.",
    "http_410": "Nothing is at its address any more. Correct the address in the integration.",
}

STORAGE: Mapping[StorageState, str] = {
    StorageState.OK: "All is written to the disk.",
    StorageState.FULL: "The disk is full. Free some space: alarms have a reserve, the rest is dropped and counted.",
    StorageState.READ_ONLY: "Nothing can be written to the disk. Look at its health, then restart the host.",
    StorageState.FAILING: "The disk reports errors. Make a backup and replace the disk.",
}


def reason(code: str) -> str:
    """Return what a link's ``reason`` means, and what to do."""
    usual = "It is in trouble, which mends itself." if code.startswith("http_") else ""
    return REASONS.get(code) or _STATUSES.get(code, usual)


def age(seconds: float) -> str:
    """Return how long something takes, as people say it."""
    for length, one, many in _UNITS:
        if number := int(seconds // length):
            return f"{number} {one if number == 1 else many}"
    return "less than a minute"

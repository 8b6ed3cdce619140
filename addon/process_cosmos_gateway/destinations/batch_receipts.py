"""Receipts of a cloud endpoint for batches. Every field is checked before any of them is stored."""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import orjson

from process_cosmos_gateway.contract.bounds import NoteFn
from process_cosmos_gateway.contract.cloud import BatchReceipt, RejectedItem
from process_cosmos_gateway.contract.codec import decode_json, parse
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.outbox import Rejected

from .http_request import quote

_TOKEN = re.compile(r"[!-~]{0,128}")
"""Characters that are valid in a header; the reference endpoint's tokens have at most 32 characters."""

_CODE = re.compile(r"[a-z0-9_]{1,64}")


@dataclass(frozen=True, slots=True)
class ParsedReceipt:
    """The token to present with the next batch, and the rejections by index in this batch."""

    token: str
    rejected: Mapping[int, Rejected]


def is_token(value: object) -> bool:
    """Return whether a value can be presented as a token."""
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


def parse_receipt(reply: bytes, batch: bytes, count: int, note_fn: NoteFn) -> ParsedReceipt:
    """Parse the receipt of ``batch``, which holds ``count`` events; raise ``ContractError`` if it is invalid.

    ``note_fn``: gets what is unknown here, and passed over.
    """
    document = decode_json(reply)
    # Counted before anything is converted: a reply may list as many items as fit into a megabyte.
    for name in ("duplicates", "rejected"):
        named = document.get(name) if isinstance(document, dict) else None
        if isinstance(named, list) and len(named) > count:
            raise ContractError(f"$.{name}", "names more events than were sent")
    receipt = parse(BatchReceipt, document, note_fn=note_fn)
    if receipt.batch != hashlib.sha256(batch).hexdigest():
        raise ContractError("$.batch", "must be the SHA-256 of the batch")
    if not is_token(receipt.token):
        raise ContractError("$.token", "must have 128 printable ASCII characters at most, and no blanks")
    _check_indexes("duplicates", receipt.duplicates, count)
    _check_indexes("rejected", [item.index for item in receipt.rejected], count)
    return ParsedReceipt(receipt.token, {item.index: _rejection(item) for item in receipt.rejected})


def _check_indexes(name: str, indexes: Collection[int], count: int) -> None:
    if len(set(indexes)) < len(indexes) or not all(0 <= index < count for index in indexes):
        raise ContractError(f"$.{name}", "must name events of the batch, each once")


def _rejection(item: RejectedItem) -> Rejected:
    """Convert a rejected item; a malformed code becomes ``refused_by_destination``."""
    code = item.problem.code if _CODE.fullmatch(item.problem.code) else Code.REFUSED_BY_DESTINATION
    return Rejected(code, quote(item.problem.message) or "", quote(orjson.dumps(item.problem).decode()))

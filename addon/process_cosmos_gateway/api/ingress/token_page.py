"""What the app's page says of local programs: who has a token, a new one, shown once, and one taken back."""

from collections.abc import Mapping
from pathlib import Path

from process_cosmos_gateway.api.local_programs.tokens import (
    Program,
    TokensUnreadableError,
    make_token,
    programs,
    read_tokens,
    revoke_token,
)
from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.errors import StartError

from .html import Html, html, joined, section

_BACK = html(t'<p><a href="./">Back</a></p>')


def overview(folder: Path) -> Html:
    """Return the card on the first page. Blocks for a moment."""
    try:
        names = ", ".join(programs(folder)) or "none"
    except TokensUnreadableError:
        names = "unknown, because the app's disk cannot be read"
    sentence = "Programs here, such as Prometheus, may publish events and read figures with a token of their own."
    return section(
        "Local programs",
        html(t'<p class="soft">{sentence}</p><p>With a token: {names}.</p><p><a href="programs">Tokens</a></p>'),
    )


def tokens(folder: Path, clock: Clock, request: Mapping[str, str]) -> tuple[Html, bool]:
    """Do what is wished (``make``, ``revoke``: a program's name); return the card and whether it could be done.

    Blocks for a moment.
    """
    try:
        if name := request.get("make"):
            return _made(name, make_token(folder, name, clock)), True
        if name := request.get("revoke"):
            revoke_token(folder, name)
        return _listed(programs(folder)), True
    except (StartError, TokensUnreadableError) as error:
        return _listed(read_tokens(folder).programs, str(error)), False


def _made(name: str, token: str) -> Html:
    return section(
        f"Token of {name}",
        html(t"<p>Copy it whole: it is shown only now. It is sent as Authorization: Bearer …</p><code>{token}</code>"),
        html(t'<p><a href="programs">All tokens</a></p>'),
    )


def _listed(known: Mapping[str, Program], problem: str | None = None) -> Html:
    rows = joined(_row(name, program) for name, program in known.items())
    form = html(
        t'<form method="post" action="programs"><label>Name of the program '
        t'<input name="make" required maxlength="64" autocomplete="off"></label> <button>Make a token</button></form>'
    )
    nobody = Html() if problem else html(t'<p class="soft">No program has a token.</p>')
    return section(
        "Local programs",
        html(t'<p class="bad">{problem}</p>') if problem else Html(),
        html(t"<table>{rows}</table>") if known else nobody,
        form,
        _BACK,
    )


def _row(name: str, program: Program) -> Html:
    since = html(t'<div class="soft">since {program.made_at:%Y-%m-%d}</div>')
    button = html(t'<button name="revoke" value="{name}" aria-label="Revoke {name}">Revoke</button>')
    form = html(t'<form method="post" action="programs">{button}</form>')
    return html(t'<tr><th scope="row">{name}{since}</th><td>{form}</td></tr>')

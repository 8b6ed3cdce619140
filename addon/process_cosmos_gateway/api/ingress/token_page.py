"""Cards of the status page for local programs: list, create and revoke tokens."""

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
    """Return the card for the main page. Reads files, so it blocks briefly."""
    try:
        names = ", ".join(programs(folder)) or "none"
    except TokensUnreadableError:
        names = "unknown, because the app's disk cannot be read"
    sentence = (
        "Programs on this network, such as Prometheus, can publish events and read metrics, each with its own token."
    )
    return section(
        "Local programs",
        html(
            t'<p class="soft">{sentence}</p><p>Programs with a token: {names}.</p><p><a href="programs">Tokens</a></p>'
        ),
    )


def tokens(folder: Path, clock: Clock, request: Mapping[str, str]) -> tuple[Html, bool]:
    """Execute a form (``make``, ``revoke``: a program's name); return the card and whether it succeeded.

    Reads and writes files, so it blocks briefly.
    """
    try:
        if name := request.get("make"):
            return _made(name, make_token(folder, name, clock)), True
        if name := request.get("revoke"):
            revoke_token(folder, name)
        return _listed(programs(folder)), True
    except (StartError, TokensUnreadableError) as error:
        # ``read_tokens`` raises nothing: the tokens that can be read are listed beside the problem.
        return _listed(read_tokens(folder).programs, str(error)), False


def _made(name: str, token: str) -> Html:
    return section(
        f"Token of {name}",
        html(t"<p>Copy the whole token now; it is not shown again.</p><code>{token}</code>"),
        html(t'<p>Programs send it as Authorization: Bearer …</p><p><a href="programs">All tokens</a></p>'),
    )


def _listed(known: Mapping[str, Program], problem: str | None = None) -> Html:
    rows = joined(_row(name, program) for name, program in known.items())
    form = html(
        t'<form method="post" action="programs"><label>Name of the program '
        t'<input name="make" required maxlength="64" autocomplete="off"></label> <button>Make a token</button></form>'
    )
    # With a problem an empty list does not mean that no program has a token.
    none = Html() if problem else html(t'<p class="soft">No program has a token.</p>')
    return section(
        "Local programs",
        html(t'<p class="bad">{problem}</p>') if problem else Html(),
        html(t"<table>{rows}</table>") if known else none,
        form,
        _BACK,
    )


def _row(name: str, program: Program) -> Html:
    since = html(t'<div class="soft">since {program.made_at:%Y-%m-%d}</div>')
    button = html(t'<button name="revoke" value="{name}" aria-label="Revoke {name}">Revoke</button>')
    form = html(t'<form method="post" action="programs">{button}</form>')
    return html(t'<tr><th scope="row">{name}{since}</th><td>{form}</td></tr>')

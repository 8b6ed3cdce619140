"""HTML and CSS of the status page, with all external text escaped."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from string.templatelib import Interpolation, Template


class Html(str):
    """Markup that is inserted into other markup without escaping."""

    __slots__ = ()


def html(template: Template) -> Html:
    """Return the markup of ``template``; interpolated values are escaped unless they are ``Html``."""
    return Html("".join(_filled(part) if isinstance(part, Interpolation) else part for part in template))


def joined(parts: Iterable[Html]) -> Html:
    """Return the concatenation of pieces of markup."""
    return Html("".join(parts))


def _filled(part: Interpolation[object]) -> str:
    return part.value if isinstance(part.value, Html) else escape(format(part.value, part.format_spec))


STYLE = Html("""
:root { color-scheme: light dark; --back: #fafafa; --card: #fff; --text: #212121; --soft: #616161; --line: #e0e0e0;
  --good: #1b7a34; --busy: #9a5b00; --bad: #c62828; --link: #00629b; }
@media (prefers-color-scheme: dark) { :root { --back: #111; --card: #1c1c1c; --text: #e8e8e8; --soft: #a8a8a8;
  --line: #333; --good: #6cc98a; --busy: #f0b45a; --bad: #ff8a80; --link: #6cc4f5; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 16px; background: var(--back); color: var(--text);
  font: 16px/1.5 Roboto, system-ui, sans-serif; }
main { max-width: 720px; margin: 0 auto; }
h1 { font-size: 24px; font-weight: 500; margin: 8px 0 0; }
h2 { font-size: 18px; font-weight: 500; margin: 0 0 8px; }
p { margin: 4px 0; }
.soft { color: var(--soft); font-size: 14px; overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px; margin: 16px 0; }
.row { display: grid; grid-template-columns: 1fr auto; column-gap: 16px; padding: 8px 0;
  border-top: 1px solid var(--line); overflow-wrap: anywhere; }
.row:first-of-type { border-top: 0; }
.row b { font-weight: 500; }
.row .soft { grid-column: 1 / -1; }
.state::before { content: "\\25cf"; margin-right: 6px; }
.good { color: var(--good); } .busy { color: var(--busy); } .bad { color: var(--bad); }
table { width: 100%; border-collapse: collapse; }
th { text-align: left; font-weight: 400; padding-right: 16px; overflow-wrap: anywhere; }
td { text-align: right; font-variant-numeric: tabular-nums; }
th, td { padding-top: 6px; padding-bottom: 6px; border-top: 1px solid var(--line); }
td .soft { white-space: nowrap; }
tr:first-child > * { border-top: 0; }
code { display: block; padding: 12px; border: 1px solid var(--line); border-radius: 8px; background: var(--back);
  font: 15px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; user-select: all; -webkit-user-select: all; }
button { font: inherit; font-weight: 500; color: var(--card); background: var(--link); border: 0; border-radius: 20px;
  padding: 8px 20px; margin-top: 8px; cursor: pointer; }
input { font: inherit; color: inherit; background: var(--back); border: 1px solid var(--soft); border-radius: 8px;
  padding: 8px 12px; margin-top: 8px; max-width: 100%; }
td button { margin: 0; }
a { color: var(--link); }
a:focus-visible, button:focus-visible, input:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
""")

# The hash covers the exact text of the element, so ``document`` must insert ``STYLE`` unchanged.
POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(sha256(STYLE.encode()).digest()).decode()}'; "
    "form-action 'self'; frame-ancestors 'self'; base-uri 'self'"
)
"""Content Security Policy: no scripts, no external resources, and only Home Assistant may frame the page."""


@dataclass(frozen=True, slots=True)
class Row:
    """Row of the status page: name, ``mood`` (``good``, ``busy`` or ``bad``), short state, and a sentence."""

    name: str
    mood: str
    state: str
    sentence: str = ""

    def html(self) -> Html:
        """Return the row as markup."""
        sentence = html(t'<div class="soft">{self.sentence}</div>') if self.sentence else Html()
        state = html(t'<span class="state {self.mood}">{self.state}</span>')
        return html(t'<div class="row"><b>{self.name}</b>{state}{sentence}</div>')


def section(title: str, *parts: Html) -> Html:
    """Return a card with the heading ``title``."""
    return html(t"<section><h2>{title}</h2>{joined(parts)}</section>")


def document(base: str, refresh: int | None, *parts: Html) -> Html:
    """Return the whole page; ``base``: base path of its links, ``refresh``: seconds until the page is reloaded."""
    # A meta refresh, because the policy allows no scripts.
    again = html(t'<meta http-equiv="refresh" content="{refresh}">') if refresh else Html()
    begin = html(t'<base href="{base}/">') if base else Html()
    return html(
        t'<!doctype html><html lang="en"><head><meta charset="utf-8">{begin}{again}'
        t'<meta name="viewport" content="width=device-width, initial-scale=1"><title>Process Cosmos</title>'
        t"<style>{STYLE}</style></head><body><main>{joined(parts)}</main></body></html>"
    )

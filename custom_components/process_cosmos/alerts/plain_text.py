"""Escaping of text that looks like a template, because Home Assistant's scripts render every text they contain."""

import re
from collections.abc import Mapping
from typing import Any, override

from homeassistant.helpers.script_variables import ScriptVariables
from homeassistant.helpers.template import Template, is_template_string

_ESCAPED = re.compile(r'\{\{ "((?:[A-Za-z0-9 ]|\\U[0-9a-f]{8})+)" \}\}')
"""A text as ``escape_templates`` writes it."""


def escape_templates(value: object) -> Any:  # noqa: ANN401 - any JSON
    """Return ``value`` with each template-like text replaced by a template that renders to that text.

    Home Assistant's schemas accept it wherever they accept a template. ``unescape_templates`` restores the text.
    """
    if isinstance(value, Mapping):
        return {escape_templates(key): escape_templates(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [escape_templates(one) for one in value]
    if isinstance(value, str) and is_template_string(value):
        return '{{{{ "{}" }}}}'.format("".join(map(_escape_character, value)))
    return value


def unescape_templates(config: object) -> Any:  # noqa: ANN401 - a part of a script's configuration
    """Return a validated script configuration in which each ``escape_templates`` is rendered to exactly its text.

    As a template alone it would be rendered to a list if its text reads as one in Python, and without its blanks.
    """
    match config:
        case str():
            text = _unescaped(config)
            return config if text is None else text
        case Template():
            text = _unescaped(config.template)
            return config if text is None else _LiteralTemplate(config, text)
        case ScriptVariables():
            return ScriptVariables(unescape_templates(config.variables))
        case Mapping():
            return {unescape_templates(key): unescape_templates(one) for key, one in config.items()}
        case list():
            return [unescape_templates(one) for one in config]
        case _:
            return config


class _LiteralTemplate(Template):
    """A template that always renders to the same text, without Home Assistant's conversion to native types."""

    __slots__ = ("_text",)

    def __init__(self, template: Template, text: str) -> None:
        super().__init__(template.template, template.hass)
        self._text = text

    @override
    def async_render(self, *_: object, **__: object) -> str:
        return self._text


def _escape_character(character: str) -> str:
    """Return a character as an escape sequence in a Jinja string, unless it is a letter, a digit or a space."""
    is_plain = character == " " or (character.isascii() and character.isalnum())
    return character if is_plain else f"\\U{ord(character):08x}"


def _unescaped(template: str) -> str | None:
    """Return the text of which ``escape_templates`` made ``template``, None if it made it of none."""
    found = _ESCAPED.fullmatch(template)
    if found is None:
        return None
    text = re.sub(r"\\U([0-9a-f]{8})", lambda escape: chr(int(escape[1], 16)), found[1])
    # Only template-like texts are escaped; an author's own template of the same form stays a template.
    return text if is_template_string(text) else None

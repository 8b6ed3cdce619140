"""Text that looks like a template, kept as text through Home Assistant's scripts, which render what they are given."""

import re
from collections.abc import Mapping
from typing import Any, override

from homeassistant.helpers.script_variables import ScriptVariables
from homeassistant.helpers.template import Template, is_template_string

_LITERAL = re.compile(r'\{\{ "((?:[A-Za-z0-9 ]|\\U[0-9a-f]{8})+)" \}\}')
"""A text as ``escape_templates`` writes it."""


def escape_templates(value: object) -> Any:  # noqa: ANN401 - any JSON
    """Return ``value`` with each text in it that looks like a template as a template of that text.

    Home Assistant's schemas take it wherever they take a template. ``as_text`` gives the text back.
    """
    if isinstance(value, Mapping):
        return {escape_templates(key): escape_templates(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [escape_templates(one) for one in value]
    if isinstance(value, str) and is_template_string(value):
        return '{{{{ "{}" }}}}'.format("".join(map(_escaped, value)))
    return value


def as_text(config: object) -> Any:  # noqa: ANN401 - a part of a script's configuration
    """Return a validated script configuration in which each ``escape_templates`` is rendered to exactly its text.

    As a template alone it would be rendered to a list if its text reads as one in Python, and without its blanks.
    """
    match config:
        case str():
            text = _text_of(config)
            return config if text is None else text
        case Template():
            text = _text_of(config.template)
            return config if text is None else _Text(config, text)
        case ScriptVariables():
            return ScriptVariables(as_text(config.variables))
        case Mapping():
            return {as_text(key): as_text(one) for key, one in config.items()}
        case list():
            return [as_text(one) for one in config]
        case _:
            return config


class _Text(Template):
    """A template that is rendered to a text, whatever the text reads as."""

    __slots__ = ("_text",)

    def __init__(self, template: Template, text: str) -> None:
        super().__init__(template.template, template.hass)
        self._text = text

    @override
    def async_render(self, *_: object, **__: object) -> str:
        return self._text


def _escaped(character: str) -> str:
    """Return a character as Jinja reads it in a string, without any sign that means something to Jinja."""
    is_plain = character == " " or (character.isascii() and character.isalnum())
    return character if is_plain else f"\\U{ord(character):08x}"


def _text_of(template: str) -> str | None:
    """Return the text of which ``escape_templates`` made ``template``, None if it made it of none."""
    found = _LITERAL.fullmatch(template)
    if found is None:
        return None
    text = re.sub(r"\\U([0-9a-f]{8})", lambda escape: chr(int(escape[1], 16)), found[1])
    return text if is_template_string(text) else None

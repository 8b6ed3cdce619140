"""The meaning of a property, derived from its Thing Description: functions of values."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from process_cosmos_gateway.contract.devices import Hint, PropertyKind

_HINT_WORDS: Mapping[str, Hint] = {
    "moisture": Hint.MOISTURE,
    "leak": Hint.MOISTURE,
    "valve": Hint.VALVE,
    "temperature": Hint.TEMPERATURE,
    "humidity": Hint.HUMIDITY,
    "battery": Hint.BATTERY,
}
_UNITS: Mapping[str, str] = {
    **dict.fromkeys(("cel", "celsius", "degreecelsius", "degc", "deg_c", "°c"), "°C"),
    **dict.fromkeys(("fahrenheit", "degreefahrenheit", "degf", "deg_f", "far", "°f"), "°F"),
    **dict.fromkeys(("percent", "%rh", "%", "%el"), "%"),
}
_TEMPERATURE_UNITS = frozenset({"°C", "°F"})

_STEMS: Mapping[str, Hint] = {"valve": Hint.VALVE, "leak": Hint.MOISTURE, "moist": Hint.MOISTURE}
"""Beginnings of words whose polarity matters: a boolean named so controls a valve, or reports wet or dry."""

_CLOSED_WORDS = frozenset({"closed", "shut", "shutoff"})
_NEGATIONS = frozenset({"no", "not", "non", "none", "never", "without", "isn", "doesn", "cannot", "un", "false"})
_STATES = frozenset(
    {"free", "dry", "off", "clear", "ok", "okay", "safe", "absent", "inactive", "disabled", "tight", "proof", "sealed"}
    | {"blocked", "locked", "inverted", "inverse", "reversed", "normal", "normally", "undetected", "unopened"}
)
_NEGATING_WORDS = _CLOSED_WORDS | _NEGATIONS | _STATES
_COMMANDS = frozenset({"close", "closes", "closing", "shuts", "shutting", "clears"})
"""Words that negate a name, but not a sentence: "closes the valve"."""

_OPPOSITES = frozenset({"open", "opened", "opens", "wet", "detected", "leaking"})
_WORDS_BETWEEN = 3

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
# "Valve no. 2" contains a number, not a negation.
_NUMBERED = re.compile(r"(?i)no\.?[\s_-]*(?=\d)")
_CLAUSE_END = re.compile(r"[.,;:!?()\n]")


class TrueMeaning(StrEnum):
    """What true means for a boolean, as declared by ``cosmos:trueMeans``."""

    OPEN = "open"
    CLOSED = "closed"
    WET = "wet"
    DRY = "dry"


@dataclass(frozen=True, slots=True, kw_only=True)
class PropertyDescription:
    """What a description says of a property: local names of ``@type``, texts, unit and type.

    ``thing``: the title of the Thing.
    """

    types: Sequence[str]
    name: str
    title: str
    description: str
    thing: str
    unit: str | None
    kind: PropertyKind
    writable: bool
    true_means: TrueMeaning | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """The meaning of a property for Home Assistant.

    ``inverted``: the device's true is the gateway's false. ``suggested``: the name suggests this hint, but leaves open
    what true means, so the property is not ``writable`` even if its forms are.
    """

    hint: Hint = Hint.NONE
    writable: bool
    inverted: bool = False
    suggested: Hint = Hint.NONE


def meaning_of(description: PropertyDescription) -> Meaning:
    """Return the meaning: by ``cosmos:trueMeans``, else by ``@type``, else by title, name and unit."""
    if description.kind is PropertyKind.BOOLEAN:
        if description.true_means is not None:
            return _meaning_of_true(description.true_means, writable=description.writable)
        suggested = _suggested_hint(description)
        # A wrong guess would open a valve that is to be closed; so it cannot be written until a person decides.
        if suggested is not Hint.NONE and _explicit_hint(description) is Hint.NONE:
            return Meaning(writable=False, suggested=suggested)
    return Meaning(hint=_hint(description), writable=description.writable)


def unit_of(unit: str | None) -> str | None:
    """Return a unit as Home Assistant spells it; an unknown one is returned unchanged."""
    if unit is None:
        return None
    # QUDT's units are URIs or have a prefix; the slash of a plain unit (m/s) belongs to it.
    local = re.split(r"[:/#]", unit)[-1] if "://" in unit or ":" in unit else unit
    return _UNITS.get(local.lower().replace(" ", "").replace("degree_", "degree"), unit)


def _meaning_of_true(true_means: TrueMeaning, *, writable: bool) -> Meaning:
    if true_means in (TrueMeaning.WET, TrueMeaning.DRY):
        return Meaning(hint=Hint.MOISTURE, writable=False, inverted=true_means is TrueMeaning.DRY)
    if not writable:
        return Meaning(writable=False)
    return Meaning(hint=Hint.VALVE, writable=True, inverted=true_means is TrueMeaning.CLOSED)


def _explicit_hint(description: PropertyDescription) -> Hint:
    """Return the hint of ``@type``, from names that do not leave open what true means."""
    types = [each for each in description.types if not any(map(_is_negating, _words(each)))]
    return next(_matching_hints(types, description), Hint.NONE)


def _hint(description: PropertyDescription) -> Hint:
    hint = next(_matching_hints([*description.types, description.title, description.name], description), Hint.NONE)
    if hint is Hint.NONE and description.unit in _TEMPERATURE_UNITS and description.kind is PropertyKind.NUMBER:
        return Hint.TEMPERATURE
    return hint


def _matching_hints(texts: Sequence[str], description: PropertyDescription) -> Iterator[Hint]:
    for text in texts:
        for word in _words(text):
            hint = _HINT_WORDS.get(word, Hint.NONE)
            if _fits(hint, description.kind, writable=description.writable):
                yield hint


def _fits(hint: Hint, kind: PropertyKind, *, writable: bool) -> bool:
    match hint:
        case Hint.NONE:
            return False
        case Hint.MOISTURE:
            return kind is PropertyKind.BOOLEAN and not writable
        case Hint.VALVE:
            return kind is PropertyKind.BOOLEAN and writable
        case _:
            return kind is PropertyKind.NUMBER


# Names that leave open what true means


def _suggested_hint(description: PropertyDescription) -> Hint:
    """Return the hint of a boolean whose name or description contains a negating word."""
    words = [word for text in (*description.types, description.title, description.name) for word in _words(text)]
    stems = [_stem(word) for word in words]
    # `closed` names no valve by itself, but is the valve's state if the whole Thing is one.
    if description.writable and not any(stems) and any(map(_is_closed_word, words)):
        stems = [_stem(word) for word in _words(description.thing) if _stem(word) is Hint.VALVE]
    found = [stem for stem in stems if stem is not None and (stem is not Hint.VALVE or description.writable)]
    if found and (any(map(_is_negating, words)) or _is_negated_by(description.description)):
        return found[0]
    return Hint.NONE


def _words(text: str) -> list[str]:
    """Return the lower-case words of a name or text; a stem and a negating word written as one are separated."""
    return [part for word in _WORD.findall(_NUMBERED.sub("", text)) for part in _split_stem(word.lower())]


def _split_stem(word: str) -> Iterator[str]:
    for stem in _HINT_WORDS:
        first, second = word.removeprefix(stem), word.removesuffix(stem)
        if first != word and _is_negating(first):
            yield from (stem, first)
            return
        if second != word and _is_negating(second):
            yield from (second, stem)
            return
    yield word


def _stem(word: str) -> Hint | None:
    return next((hint for stem, hint in _STEMS.items() if word.startswith(stem)), None)


def _is_closed_word(word: str) -> bool:
    return word in _CLOSED_WORDS or word in _COMMANDS


def _is_negating(word: str) -> bool:
    return word in _NEGATING_WORDS or word in _COMMANDS


def _is_negated_by(text: str) -> bool:
    """Return whether a clause has a negating word near a stem, without its opposite ("open or closed")."""
    for clause in _CLAUSE_END.split(text):
        words = _words(clause)
        stems = [place for place, word in enumerate(words) if _stem(word)]
        negating = [place for place, word in enumerate(words) if word in _NEGATING_WORDS]
        close = any(abs(one - other) <= _WORDS_BETWEEN + 1 for one in stems for other in negating)
        if close and not _has_opposite(words):
            return True
    return False


def _has_opposite(words: Sequence[str]) -> bool:
    places = [place for place, word in enumerate(words) if word in _OPPOSITES]
    return any(_NEGATIONS.isdisjoint(words[max(0, place - 2) : place]) for place in places)

"""Repair issue for an automation whose reactions exceed their budget."""

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant

from custom_components.process_cosmos.const import CONF_STEADY
from custom_components.process_cosmos.reactions.reaction_times import ReactionSummary

from .site_issues import Issue, clear_issues, create_issue

_LEAST_SLOW = 3
"""Number of slow reactions that are an issue: a single pause is none."""

_MOST_OF_THE_TIME = 0.5


def show_reaction_issue(
    hass: HomeAssistant, entry: ConfigEntry, automation: tuple[str, str], summary: ReactionSummary
) -> None:
    """Create, update or delete the issue of the ``automation``, which is a unique id and a name.

    Suggests *steady reaction times* if garbage collections took most of the slow reactions.
    """
    unique_id, name = automation
    slow, slowest = summary.slow, summary.percentile(99)
    if slowest is None or slowest <= summary.budget or len(slow) < _LEAST_SLOW:
        clear_reaction_issues(hass, entry, unique_id)
        return
    collections = sum(each.garbage_collection for each in slow) / sum(each.seconds for each in slow)
    is_steady = entry.options.get(CONF_STEADY, False)
    shown, other = Issue.REACTIONS_SLOW, Issue.REACTIONS_UNSTEADY
    if collections > _MOST_OF_THE_TIME and not is_steady:
        shown, other = other, shown
    clear_issues(hass, entry, other, about=unique_id)
    create_issue(
        hass,
        entry,
        shown,
        about=unique_id,
        automation=name,
        budget=f"{1000 * summary.budget:.0f} ms",
        slow=str(len(slow)),
        reactions=str(len(summary.reactions)),
        slowest=f"{1000 * slowest:.0f} ms",
    )


def clear_reaction_issues(hass: HomeAssistant, entry: ConfigEntry, unique_id: str) -> None:
    """Delete the issue of the automation with this unique id."""
    clear_issues(hass, entry, Issue.REACTIONS_SLOW, Issue.REACTIONS_UNSTEADY, about=unique_id)

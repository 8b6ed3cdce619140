"""Repair issue for an automation whose reactions exceed their budget."""

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant

from custom_components.process_cosmos.reactions.reaction_times import ReactionSummary

from .site_issues import Issue, clear_issues, create_issue

_LEAST_SLOW = 3
"""Number of slow reactions in 24 hours that are an issue: a single pause is none."""


def show_reaction_issue(
    hass: HomeAssistant, entry: ConfigEntry, automation: tuple[str, str], summary: ReactionSummary
) -> None:
    """Create, update or delete the issue of the ``automation``, which is a unique id and a name."""
    unique_id, name = automation
    slow, percentile = summary.slow, summary.percentile(99)
    if percentile is None or len(slow) < _LEAST_SLOW:
        clear_reaction_issue(hass, entry, unique_id)
    # Below the budget again it stays until the slow reactions have expired: it must not come and go with each reaction.
    elif percentile > summary.budget:
        collections = sum(each.garbage_collection for each in slow) / sum(each.seconds for each in slow)
        create_issue(
            hass,
            entry,
            Issue.REACTIONS_SLOW,
            about=unique_id,
            automation=name,
            budget=f"{1000 * summary.budget:.0f} ms",
            slow=str(len(slow)),
            reactions=str(len(summary.reactions)),
            percentile=f"{1000 * percentile:.0f} ms",
            collections=f"{collections:.0%}",
        )


def clear_reaction_issue(hass: HomeAssistant, entry: ConfigEntry, unique_id: str) -> None:
    """Delete the issue of the automation with this unique id."""
    clear_issues(hass, entry, Issue.REACTIONS_SLOW, about=unique_id)

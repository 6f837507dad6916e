"""What two contacts become when they turn out to be one, and what each gets back when that was wrong. Pure.

The winner's word counts where both say something: what was guessed of a visitor must not change what is known of a
person. Only attributes that count (scores) are added up.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import msgspec

from contacts.profiles import Limits

Agreement = tuple[str, str]
"""Channel and purpose."""
Stated = tuple[bool, datetime]
"""Whether it was granted, and when that was said."""


@dataclass(frozen=True)
class Facts:
    """What stands on a contact's own row."""

    created_at: datetime
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    language: str | None = None
    time_zone: str | None = None
    company_id: int | None = None


def combine(winner: Facts, loser: Facts, adding: Collection[str], limits: Limits) -> Facts:
    """The winner with what the loser knows besides.

    Args:
        winner: whose attributes, language, time zone and company count where both have them.
        loser: fills gaps; its tags come after the winner's.
        adding: attributes whose numbers are added up.
        limits: what does not fit any more is left out; a merge never fails for it.
    """
    attributes = dict(winner.attributes)
    for name, value in loser.attributes.items():
        mine = attributes.get(name)
        if mine is None:
            if _fits(attributes | {name: value}, limits):
                attributes[name] = value
        elif name in adding and _is_number(mine) and _is_number(value):
            attributes[name] = mine + value
    tags = tuple(dict.fromkeys([*winner.tags, *loser.tags]))[: max(limits.tags, len(winner.tags))]
    return Facts(
        min(winner.created_at, loser.created_at),
        attributes,
        tags,
        winner.language or loser.language,
        winner.time_zone or loser.time_zone,
        winner.company_id or loser.company_id,
    )


def separate(now: Facts, merged: Facts, winner: Facts, loser: Facts, adding: Collection[str]) -> Facts:
    """The winner without what came from the loser; what was written since the merge stays.

    Args:
        now: the winner as it is.
        merged: as it was just after the merge.
        winner: as it was before.
        loser: the other one, before.
        adding: attributes whose numbers were added up.
    """
    attributes = dict(now.attributes)
    for name, value in loser.attributes.items():
        mine, was = attributes.get(name), winner.attributes.get(name)
        if mine is None or merged.attributes.get(name) == was:
            continue  # it is gone since, or nothing came from the loser
        if name in adding and _is_number(mine) and _is_number(value):
            attributes[name] = mine - value
            if was is None and not attributes[name]:
                del attributes[name]
        elif was is None and mine == value:
            del attributes[name]
    came = set(merged.tags) - set(winner.tags)
    return Facts(
        winner.created_at if now.created_at == merged.created_at else now.created_at,
        attributes,
        tuple(tag for tag in now.tags if tag not in came),
        winner.language if now.language == merged.language else now.language,
        winner.time_zone if now.time_zone == merged.time_zone else now.time_zone,
        winner.company_id if now.company_id == merged.company_id else now.company_id,
    )


def lay_over(winner: Facts, late: Facts, adding: Collection[str], limits: Limits) -> Facts:
    """The winner with what somebody wrote on the loser's row while the merge was under way: the last word counts."""
    fresh = replace(
        late,
        attributes={
            name: value + winner.attributes[name]
            if name in adding and _is_number(value) and _is_number(winner.attributes.get(name))
            else value
            for name, value in late.attributes.items()
        },
    )
    return replace(
        combine(fresh, winner, (), limits),
        created_at=winner.created_at,
        tags=combine(winner, late, (), limits).tags,
    )


def agree(winner: Mapping[Agreement, Stated], loser: Mapping[Agreement, Stated]) -> dict[Agreement, Stated]:
    """What holds for both: a refusal of either, unless the winner agreed after it.

    That the loser agreed counts only where nobody refused: a click on a shared device must not undo what a person said.
    """
    held: dict[Agreement, Stated] = {}
    for key in sorted({*winner, *loser}):
        mine, other = winner.get(key), loser.get(key)
        if mine is None or other is None:
            held[key] = mine or other  # type: ignore[assignment] # one of them is there
        elif mine[0] == other[0]:
            held[key] = max(mine, other, key=lambda one: one[1])
        elif mine[0] and mine[1] > other[1]:
            held[key] = mine
        else:
            held[key] = other if mine[0] else mine
    return held


def disagree(
    now: Mapping[Agreement, Stated],
    merged: Mapping[Agreement, Stated],
    winner: Mapping[Agreement, Stated],
    loser: Mapping[Agreement, Stated],
) -> tuple[dict[Agreement, Stated], dict[Agreement, Stated]]:
    """What holds for winner and loser apart: as before the merge, but for what was said since.

    What was said since stays with the winner. A refusal since then counts for both: nobody can tell whose it was.
    """
    mine: dict[Agreement, Stated] = {}
    other = dict(loser)
    for key in sorted({*now, *winner}):
        if key in now and now[key] != merged.get(key):
            mine[key] = now[key]
            if not now[key][0]:
                other[key] = now[key]
        elif key in winner:
            mine[key] = winner[key]
    return mine, other


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _fits(attributes: Mapping[str, Any], limits: Limits) -> bool:
    return len(attributes) <= limits.attributes and len(msgspec.json.encode(attributes)) <= limits.bytes

"""Splits that find out which arm is best and then send everybody there.

The figures are counted from visits and the ledger, over all versions of the journey that have the same split. A
decision is a row, made once; who came before it stays in the arm it was given.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import NormalDist
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core import ids
from core.clock import now
from core.database import Database
from engine.versions import Version, Versions
from engine.wire import Acted, StepRequest
from journeys.machine import choose_arm
from journeys.plan import Split, Winner

_FEWEST = 5
"""Successes an arm, on average, from which on the test's approximation holds."""
_REST = 20
"""How many times as long as counting a split took it is left alone."""


@dataclass(frozen=True)
class Figures:
    """What is known of one arm."""

    contacts: int
    successes: int

    @property
    def rate(self) -> float:
        """Successes of each contact."""
        return self.successes / self.contacts if self.contacts else 0.0


async def choose(connection: AsyncConnection, version: Version, step: Split, request: StepRequest) -> Acted:
    """The arm of each member of a batch: the winner's if there is one, else the one that its weights give."""
    row = await connection.execute(
        text("select arm from split_decision where journey_id = :journey and salt = :salt and arms = :arms"),
        {"journey": version.journey_id, "salt": step.salt, "arms": _arms(step)},
    )
    won = row.scalar_one_or_none()
    targets = {arm.name: arm.next for arm in step.arms}
    rows = await connection.execute(
        text("select id, coalesce(merged_from, contact_id) as contact_id from enrollment where id = any(:ids)"),
        {"ids": [enrollment for enrollment, _ in request.members]},
    )
    seeds = {row.id: ids.seed(row.contact_id) for row in rows}
    acted = Acted()
    for enrollment, visit in request.members:
        name, to = choose_arm(step, seeds.get(enrollment, 0))
        if won is not None and name != step.holdout:  # who is held out stays out
            acted.went.append([enrollment, visit, targets[won], f"won:{won}"])
        else:
            acted.went.append([enrollment, visit, to, f"arm:{name}"])
    return acted


@dataclass(frozen=True)
class Looks:
    """How often it was looked whether an arm has won, and how many successes all arms had at the last look."""

    number: int = 0
    successes: int = 0


def is_due(figures: Mapping[str, Figures], winner: Winner, before: Looks) -> bool:
    """Whether to look now: every arm has its sample, and there are twice as many successes as at the last look.

    Who looks often finds a difference where there is none, sooner or later. When it is looked depends on what all arms
    achieved together and not on which of them did, so it favours none.
    """
    if len(figures) < 2 or any(one.contacts < winner.sample for one in figures.values()):
        return False
    return _successes(figures) >= max(_FEWEST * len(figures), 2 * before.successes)


def better(figures: Mapping[str, Figures], winner: Winner, look: int) -> str | None:
    """The arm that is better than every other beyond doubt; None if that cannot be said yet.

    A two-sided two-proportion z-test with pooled variance of the best arm against each other one; the error allowed is
    divided by the number of comparisons (Bonferroni). Of the error allowed in all, look number k may spend the part
    1 / k(k + 1); these add up to one, so however many looks there are, chance alone wins no more often than was allowed
    (alpha spending; Lan and DeMets, Biometrika 70, 1983).
    """
    ranked = sorted(figures, key=lambda name: figures[name].rate, reverse=True)
    best, others = figures[ranked[0]], [figures[name] for name in ranked[1:]]
    allowed = (1 - winner.confidence) / (look * (look + 1)) / len(others)
    return ranked[0] if all(p_value(best, other) <= allowed for other in others) else None


def _successes(figures: Mapping[str, Figures]) -> int:
    return sum(one.successes for one in figures.values())


def p_value(one: Figures, other: Figures) -> float:
    """How likely so great a difference is if there is none."""
    pooled = (one.successes + other.successes) / (one.contacts + other.contacts)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / one.contacts + 1 / other.contacts))
    if not spread:
        return 1.0
    return 2 * (1 - NormalDist().cdf(abs(one.rate - other.rate) / spread))


def ahead(figures: Mapping[str, Figures], step: Split) -> str:
    """The arm with the best rate; of equal ones the first that is written."""
    names = [arm.name for arm in step.arms if arm.name != step.holdout]
    return max(names, key=lambda name: figures.get(name, Figures(0, 0)).rate)


class Winners:
    """The router's duty to decide splits."""

    def __init__(self, database: Database, versions: Versions) -> None:
        self._database = database
        self._versions = versions
        self._rests: dict[tuple[int, str], float] = {}
        """Journey and split to when it is counted next: that reads all visits of the split."""

    async def decide(self) -> int:
        """Decide the splits of current versions that can be decided; says how many were."""
        async with self._database.begin() as connection:
            rows = await connection.execute(
                text(
                    "select v.id from journey j join journey_version v on v.id = j.version_id "
                    "where j.state <> 'stopped' and jsonb_path_exists(v.plan, '$.steps[*].winner ? (@ != null)') "
                    "order by v.id"
                )
            )
            known = await self._versions.get_all(connection, list(rows.scalars()))
        decided = 0
        for version in known.values():
            for step in version.plan.steps:
                if isinstance(step, Split) and step.winner is not None:
                    decided += await self._decide(version, step, step.winner)
        return decided

    async def _decide(self, version: Version, step: Split, winner: Winner) -> bool:
        split = (version.journey_id, f"{step.salt}/{_arms(step)}")
        begun = time.monotonic()
        if begun < self._rests.get(split, 0.0):
            return False
        async with self._database.begin() as connection:
            decided = await _decide(connection, self._versions, version, step, winner)
        ended = time.monotonic()
        self._rests[split] = ended + _REST * (ended - begun)
        return decided


async def _decide(
    connection: AsyncConnection, versions: Versions, version: Version, step: Split, winner: Winner
) -> bool:
    found = {"journey": version.journey_id, "salt": step.salt, "arms": _arms(step)}
    there = await connection.execute(
        text("select 1 from split_decision where journey_id = :journey and salt = :salt and arms = :arms"), found
    )
    if there.first() is not None:
        return False
    figures, first = await count(connection, versions, version, step, winner)
    if first is None:
        return False
    arm, reason = await _look(connection, found, figures, winner), "significance"
    if arm is None:
        deadline = winner.deadline_seconds
        if deadline is None or now() < first + timedelta(seconds=deadline):
            return False
        arm, reason = ahead(figures, step), "deadline"
    said = {name: [one.contacts, one.successes] for name, one in figures.items()}
    await connection.execute(
        text(
            "insert into split_decision (journey_id, salt, arms, arm, figures, reason) values "
            "(:journey, :salt, :arms, :arm, cast(:figures as jsonb), :reason) on conflict do nothing"
        ),
        {**found, "arm": arm, "reason": reason, "figures": msgspec.json.encode(said).decode()},
    )
    return True


async def _look(
    connection: AsyncConnection, split: Mapping[str, Any], figures: Mapping[str, Figures], winner: Winner
) -> str | None:
    """The arm that has won, if it is time to look for it; the look is counted."""
    row = (
        await connection.execute(
            text(
                "select looks, successes from split_look "
                "where journey_id = :journey and salt = :salt and arms = :arms for update"
            ),
            split,
        )
    ).first()
    before = Looks(row.looks, row.successes) if row else Looks()
    if not is_due(figures, winner, before):
        return None
    await connection.execute(
        text(
            "insert into split_look (journey_id, salt, arms, looks, successes) "
            "values (:journey, :salt, :arms, :looks, :successes) on conflict (journey_id, salt, arms) "
            "do update set looks = excluded.looks, successes = excluded.successes"
        ),
        {**split, "looks": before.number + 1, "successes": _successes(figures)},
    )
    return better(figures, winner, before.number + 1)


_HIT = {
    "opened": "exists (select from message m where m.contact_id = e.contact_id and m.enrollment_id = e.id "
    "and m.visit >= s.visit and m.purpose <> 'staff' and (m.opened_at is not null or m.clicked_at is not null))",
    "clicked": "exists (select from message m where m.contact_id = e.contact_id and m.enrollment_id = e.id "
    "and m.visit >= s.visit and m.purpose <> 'staff' and m.clicked_at is not null)",
    "goal": "e.outcome = any(:outcomes)",
}


async def count(
    connection: AsyncConnection, versions: Versions, version: Version, step: Split, winner: Winner
) -> tuple[dict[str, Figures], datetime | None]:
    """Contacts and successes of each arm that may win, and when the first contact came."""
    places, outcomes = await _with_split(connection, versions, version.journey_id, step)
    rows = await connection.execute(
        text(
            "select substr(s.via, 5) as arm, count(distinct e.id) as contacts, min(s.arrived_at) as first, "  # noqa: S608
            f"count(distinct e.id) filter (where {_HIT[winner.metric]}) as successes "
            "from step_visit s join enrollment e on e.id = s.enrollment_id "
            "join step_visit p on p.enrollment_id = s.enrollment_id and p.visit < s.visit and not exists (select "
            "from step_visit x where x.enrollment_id = s.enrollment_id and x.visit > p.visit and x.visit < s.visit "
            "and x.via = any(:vias)) "
            "join unnest(cast(:versions as int[]), cast(:steps as int[])) as w(version, step) "
            "on p.version_id = w.version and p.step = w.step "
            "where e.journey_id = :journey and s.via = any(:vias) group by 1"
        ),
        {
            "journey": version.journey_id,
            "vias": [f"arm:{arm.name}" for arm in step.arms if arm.name != step.holdout],
            "versions": list(places),
            "steps": list(places.values()),
            **({"outcomes": outcomes} if winner.metric == "goal" else {}),
        },
    )
    found = rows.all()
    figures = {arm.name: Figures(0, 0) for arm in step.arms if arm.name != step.holdout}
    figures |= {row.arm: Figures(row.contacts, row.successes) for row in found}
    return figures, min((row.first for row in found), default=None)


async def _with_split(
    connection: AsyncConnection, versions: Versions, journey_id: int, step: Split
) -> tuple[dict[int, int], list[str]]:
    """Versions of the journey that have this split, with its number in each; and the outcomes of their goals."""
    rows = await connection.execute(
        text("select id from journey_version where journey_id = :journey order by id"), {"journey": journey_id}
    )
    found: dict[int, int] = {}
    outcomes: set[str] = set()
    for version in (await versions.get_all(connection, list(rows.scalars()))).values():
        for number, one in enumerate(version.plan.steps):
            if isinstance(one, Split) and one.salt == step.salt and _arms(one) == _arms(step):
                found[version.id] = number
                outcomes |= version.plan.goals()
    return found, sorted(outcomes)


def _arms(step: Split) -> str:
    return ",".join(sorted(arm.name for arm in step.arms))

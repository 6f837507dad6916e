"""Contacts who entered journeys, and how that ended. A contact who entered twice counts twice."""

from sqlalchemy import Integer, Text, and_, cast, func, literal, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB

from core.schema.journeys import enrollment, journey_version
from reports.declarations import ENROLLMENTS, Measure

ENTRIES = Measure("entries", "Entries", "Enrollments that began", "count", ENROLLMENTS, func.count())
FINISHED = Measure(
    slug="finished",
    label="Finished",
    description="Enrollments that have ended, in whatever way",
    unit="count",
    source=ENROLLMENTS,
    expression=func.count().filter(enrollment.c.state == "finished"),
)

_met = func.coalesce(journey_version.c.plan["endings", "rules"], cast(literal([], JSONB), JSONB))
_rules = journey_version.c.plan["subscriptions"].concat(_met)
_rule = func.jsonb_array_elements(_rules).table_valued("value").render_derived()
_said = _rule.c.value.cast(JSONB)
# Uncorrelated, so PostgreSQL reads each plan once and hashes what it found.
_goals = (
    select(journey_version.c.id.cast(Integer), _said["outcome"].astext.cast(Text))
    .join_from(journey_version, _rule, _said["role"].astext == "goal")
    .correlate(None)
)
GOALS = Measure(
    slug="goals",
    label="Goals reached",
    description="Enrollments that ended because a goal was reached: its event came, or its criteria held",
    unit="count",
    source=ENROLLMENTS,
    expression=func.count().filter(
        and_(
            enrollment.c.state == "finished",
            enrollment.c.closed_by.is_not(None),
            tuple_(enrollment.c.version_id, enrollment.c.outcome).in_(_goals),
        )
    ),
)

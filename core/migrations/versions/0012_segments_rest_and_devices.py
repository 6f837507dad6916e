"""Segments: days only of those that are tracked, a rest for those whose question fails. Sessions: brand and model."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# As in 0003, but a day is written only while a segment is tracked: when tracking ends, its rows go all at once, and
# nobody has left.
_COUNT = """
create or replace function segment_count_presence() returns trigger language plpgsql as $$
declare
    side integer := case when tg_op = 'INSERT' then 1 else -1 end;
begin
    perform from segment where id in (select segment_id from changed) order by id for no key update;
    update segment s set members = s.members + side * c.n
    from (select segment_id, count(*) as n from changed group by segment_id) c where s.id = c.segment_id;
    insert into segment_day (segment_id, day, members, entered, gone)
    select s.id, (now() at time zone 'UTC')::date, s.members,
        case when side > 0 then c.n else 0 end, case when side < 0 then c.n else 0 end
    from (select segment_id, count(*) as n from changed group by segment_id) c join segment s on s.id = c.segment_id
    where s.tracking = 'on'
    on conflict (segment_id, day) do update set members = excluded.members,
        entered = coalesce(segment_day.entered, 0) + excluded.entered,
        gone = coalesce(segment_day.gone, 0) + excluded.gone;
    return null;
end $$
"""
_COUNT_BEFORE = _COUNT.replace("case when side", "case when s.tracking = 'on' and side").replace(
    "    where s.tracking = 'on'\n", ""
)


def upgrade() -> None:
    """Bring the schema forward."""
    op.add_column(
        "segment",
        sa.Column(
            "unnoted_before",
            sa.BigInteger(),
            nullable=True,
            comment="Transactions before this one may have changed facts unnoted: gone through once more when they "
            "are over; 0 until that is known",
        ),
    )
    op.add_column(
        "segment",
        sa.Column(
            "rests_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Left alone until then, because its question failed",
        ),
    )
    op.add_column("session", sa.Column("brand", sa.Text(), nullable=True))
    op.add_column("session", sa.Column("model", sa.Text(), nullable=True))
    op.execute(_COUNT)


def downgrade() -> None:
    """Take it back."""
    op.execute(_COUNT_BEFORE)
    op.drop_column("session", "model")
    op.drop_column("session", "brand")
    op.drop_column("segment", "rests_until")
    op.drop_column("segment", "unnoted_before")

"""Segments that are kept up to date: versions, counters, growth, and the feed of changed facts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Statement-level triggers: a batch of a thousand rows costs one call. While no tracked segment depends on the table,
# that call is one look at `segment`, which has a row a segment.
_NOTE = """
create function segment_note_change() returns trigger language plpgsql as $$
declare
    what text := case when tg_table_name = 'contact' and tg_op = 'INSERT' then 'birth' else tg_table_name end;
begin
    if exists (select from segment where tracking is not null and what = any(depends)) then
        if tg_table_name = 'contact' then
            insert into segment_look (contact_id, cause) select id, what from changed;
        else
            insert into segment_look (contact_id, cause)
            select distinct contact_id, what from changed where contact_id is not null;
        end if;
    end if;
    return null;
end $$
"""
_FED = {
    "contact": ("insert", "update"),
    "identity": ("insert", "update", "delete"),
    "consent": ("insert", "update", "delete"),
    "enrollment": ("insert", "update"),
    "message": ("insert", "update"),
    "segment_member": ("insert", "delete"),
}

# The counter on the row and the counts of the day follow from the rows themselves, whoever deletes them: erasing a
# contact does so by foreign key. Segments are locked in the order of their ids, as everywhere.
_COUNT = """
create function segment_count_presence() returns trigger language plpgsql as $$
declare
    side integer := case when tg_op = 'INSERT' then 1 else -1 end;
begin
    perform from segment where id in (select segment_id from changed) order by id for no key update;
    update segment s set members = s.members + side * c.n
    from (select segment_id, count(*) as n from changed group by segment_id) c where s.id = c.segment_id;
    insert into segment_day (segment_id, day, members, entered, gone)
    select s.id, (now() at time zone 'UTC')::date, s.members,
        case when s.tracking = 'on' and side > 0 then c.n else 0 end,
        case when s.tracking = 'on' and side < 0 then c.n else 0 end
    from (select segment_id, count(*) as n from changed group by segment_id) c join segment s on s.id = c.segment_id
    on conflict (segment_id, day) do update set members = excluded.members,
        entered = coalesce(segment_day.entered, 0) + excluded.entered,
        gone = coalesce(segment_day.gone, 0) + excluded.gone;
    return null;
end $$
"""


def upgrade() -> None:
    """Add columns, tables, the index of facts and the triggers."""
    op.create_index(
        "ix_event_name_id_contact_id",
        "event",
        ["name_id", "contact_id", "occurred_at"],
        postgresql_include=["value"],
    )
    # What was tracked begins anew: journeys ask for it again when the router starts.
    op.execute("delete from segment_presence")
    op.execute("update segment set tracking = null")
    op.add_column(
        "segment",
        sa.Column(
            "version",
            sa.Integer(),
            server_default="1",
            nullable=False,
            comment="The number of the last publication",
        ),
    )
    op.add_column(
        "segment",
        sa.Column(
            "kept_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Tracked so long because it is often asked for",
        ),
    )
    op.add_column(
        "segment",
        sa.Column("asked", sa.Integer(), server_default="0", nullable=False, comment="How often on the day asked_on"),
    )
    op.add_column("segment", sa.Column("asked_on", sa.Date(), nullable=True))
    op.add_column(
        "segment",
        sa.Column(
            "members",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="Rows in segment_presence, by trigger",
        ),
    )
    op.add_column(
        "segment",
        sa.Column(
            "depends",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="What a tracked one can change with: event:NAME, event:*, a table's name, birth, time",
        ),
    )
    op.drop_column("segment", "sweep_position")
    op.drop_column("segment", "sweep_begun_at")
    op.alter_column(
        "segment",
        "tracking",
        existing_type=sa.Text(),
        comment="Whether segment_presence says who is in: null, beginning (until it is full) or on",
        existing_comment="Whether comings and goings become events: null, beginning (first sweep) or on",
    )
    op.alter_column(
        "segment",
        "sweep_due_at",
        existing_type=sa.DateTime(timezone=True),
        comment="When everybody is to be gone through next",
    )
    op.create_table_comment("segment_member", "Who is on the list of a segment that has no criteria")
    op.create_table_comment(
        "segment_presence",
        "Who is in a tracked segment",
        existing_comment="Who was in a tracked segment when it was last looked at",
    )
    _create_tables()
    op.execute("delete from segment_member m where not exists (select from contact c where c.id = m.contact_id)")
    op.create_foreign_key(
        op.f("fk_segment_member_contact_id_contact"),
        "segment_member",
        "contact",
        ["contact_id"],
        ["id"],
        ondelete="CASCADE",
    )
    op.execute(
        "insert into segment_version (segment_id, number, title, criteria, source, published_at, published_by) "
        "select id, 1, title, criteria, source, changed_at, 'unknown' from segment"
    )
    op.execute(_NOTE)
    op.execute(_COUNT)
    for table, changes in _FED.items():
        for change in changes:
            _trigger(table, change, "segment_note_change")
    for change in ("insert", "delete"):
        _trigger("segment_presence", change, "segment_count_presence")


def _create_tables() -> None:
    op.create_table(
        "segment_version",
        sa.Column("segment_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("criteria", postgresql.JSONB(astext_type=sa.Text()), nullable=True, comment="Null for a list"),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("published_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["segment_id"],
            ["segment.id"],
            name=op.f("fk_segment_version_segment_id_segment"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("segment_id", "number", name=op.f("pk_segment_version")),
        comment="Each publication of a segment",
    )
    op.create_table(
        "segment_look",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("contact_id", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False, comment="The table that changed, by trigger; birth; or sweep"),
        sa.Column("segment_id", sa.Integer(), nullable=True, comment="Null: all that depend on it"),
        sa.ForeignKeyConstraint(
            ["segment_id"], ["segment.id"], name=op.f("fk_segment_look_segment_id_segment"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_segment_look")),
        comment="Contacts to be looked at, since a fact about them changed without an event",
    )
    op.create_index("ix_segment_look_segment_id_id", "segment_look", ["segment_id", "id"])
    op.create_table(
        "segment_day",
        sa.Column("segment_id", sa.Integer(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False, comment="UTC"),
        sa.Column("members", sa.BigInteger(), nullable=False, comment="At the end of the day, or so far"),
        sa.Column("entered", sa.BigInteger(), nullable=True, comment="Null where the segment was not tracked"),
        sa.Column("gone", sa.BigInteger(), nullable=True, comment="Null where the segment was not tracked"),
        sa.ForeignKeyConstraint(
            ["segment_id"], ["segment.id"], name=op.f("fk_segment_day_segment_id_segment"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("segment_id", "day", name=op.f("pk_segment_day")),
        comment="How a segment grew",
    )


def _trigger(table: str, change: str, function: str) -> None:
    rows = "old" if change == "delete" else "new"
    op.execute(
        f"create trigger {function}_{change} after {change} on {table} referencing {rows} table as changed "
        f"for each statement execute function {function}()"
    )


def downgrade() -> None:
    """Take all of it away."""
    for table, changes in _FED.items():
        for change in changes:
            op.execute(f"drop trigger segment_note_change_{change} on {table}")
    for change in ("insert", "delete"):
        op.execute(f"drop trigger segment_count_presence_{change} on segment_presence")
    op.execute("drop function segment_note_change()")
    op.execute("drop function segment_count_presence()")
    op.drop_constraint(op.f("fk_segment_member_contact_id_contact"), "segment_member", type_="foreignkey")
    for name in ("segment_version", "segment_look", "segment_day"):
        op.drop_table(name)
    for column in ("version", "kept_until", "asked", "asked_on", "members", "depends"):
        op.drop_column("segment", column)
    op.add_column("segment", sa.Column("sweep_position", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("segment", sa.Column("sweep_begun_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_index("ix_event_name_id_contact_id", "event")

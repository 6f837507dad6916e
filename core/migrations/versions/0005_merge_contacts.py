"""Add merging of contacts and import of past events"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema forward."""
    op.create_table(
        "contact_merge",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("loser_id", sa.BigInteger(), nullable=False, comment="The contact that is no more"),
        sa.Column("winner_id", sa.BigInteger(), nullable=False, comment="Into which it was merged"),
        sa.Column("now_id", sa.BigInteger(), nullable=False, comment="Who that is now: winners can be merged, too"),
        sa.Column("merged_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="identify, command, api …"),
        sa.Column("merged_by", sa.Text(), nullable=True),
        sa.Column(
            "before",
            postgresql.JSONB(),
            nullable=True,
            comment="What undoing needs; null once it cannot be undone any more",
        ),
        sa.Column(
            "seen_at", sa.DateTime(timezone=True), nullable=True, comment="When what was under way had to be waited for"
        ),
        sa.Column(
            "settled_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When nothing more could be written about the loser",
        ),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("undone_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contact_merge")),
    )
    op.create_index(
        "ix_contact_merge_now_id",
        "contact_merge",
        ["now_id"],
        unique=False,
        postgresql_where=sa.text("undone_at is null"),
    )
    op.create_index(
        "ix_contact_merge_unsettled",
        "contact_merge",
        ["id"],
        unique=False,
        postgresql_where=sa.text("settled_at is null"),
    )
    op.create_index("ix_contact_merge_winner_id", "contact_merge", ["winner_id"], unique=False)
    op.create_index(
        "uq_contact_merge_loser_id",
        "contact_merge",
        ["loser_id"],
        unique=True,
        postgresql_where=sa.text("undone_at is null"),
    )
    op.create_table(
        "erased_identity",
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of kind, NUL and value"),
        sa.Column("erased_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_erased_identity")),
        comment="Anonymous ids of contacts who were erased: nothing comes in under them any more",
    )
    op.create_table(
        "event_import",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False, comment="Of the file's bytes and the options"),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), server_default="0", nullable=False, comment="Rows already taken in"),
        sa.Column("accepted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "duplicates", sa.BigInteger(), server_default="0", nullable=False, comment="Whose id was in the log already"
        ),
        sa.Column("rejected", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event_import")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_event_import_fingerprint")),
    )
    op.create_table(
        "log_history",
        sa.Column("first_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("first_id", name=op.f("pk_log_history")),
        comment="Stretches of the log that were imported as history: they start nothing and count for no journey",
    )
    op.create_table(
        "identity_conflict",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("contact_id", sa.BigInteger(), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["contact_id"], ["contact.id"], name=op.f("fk_identity_conflict_contact_id_contact"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["contact.id"], name=op.f("fk_identity_conflict_owner_id_contact"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_conflict")),
        sa.UniqueConstraint(
            "contact_id", "owner_id", "kind", "value", name=op.f("uq_identity_conflict_contact_id_owner_id_kind_value")
        ),
        comment="A contact was said to be known by what another one is known by; nothing was merged",
    )
    op.create_index(op.f("ix_identity_conflict_owner_id"), "identity_conflict", ["owner_id"], unique=False)
    op.add_column(
        "attribute",
        sa.Column(
            "merging",
            sa.Text(),
            server_default="keep",
            nullable=False,
            comment="When contacts merge: keep one, or add up",
        ),
    )
    op.create_check_constraint(op.f("ck_attribute_merging"), "attribute", "merging in ('keep', 'add')")
    op.add_column(
        "consent_record",
        sa.Column("merged_from", sa.BigInteger(), nullable=True, comment="The contact it belonged to before a merge"),
    )
    op.add_column(
        "conversion",
        sa.Column("merged_from", sa.BigInteger(), nullable=True, comment="The contact it belonged to before a merge"),
    )
    op.add_column(
        "enrollment",
        sa.Column("merged_from", sa.BigInteger(), nullable=True, comment="The contact it belonged to before a merge"),
    )
    op.add_column(
        "event",
        sa.Column("merged_from", sa.BigInteger(), nullable=True, comment="The contact it belonged to before a merge"),
    )
    op.add_column(
        "message",
        sa.Column("merged_from", sa.BigInteger(), nullable=True, comment="The contact it belonged to before a merge"),
    )
    op.add_column(
        "session",
        sa.Column("merged_from", sa.BigInteger(), nullable=True, comment="The contact it belonged to before a merge"),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_column("session", "merged_from")
    op.drop_column("message", "merged_from")
    op.drop_column("event", "merged_from")
    op.drop_column("enrollment", "merged_from")
    op.drop_column("conversion", "merged_from")
    op.drop_column("consent_record", "merged_from")
    op.drop_column("attribute", "merging")
    op.drop_index(op.f("ix_identity_conflict_owner_id"), table_name="identity_conflict")
    op.drop_table("identity_conflict")
    op.drop_table("log_history")
    op.drop_table("event_import")
    op.drop_table("erased_identity")
    op.drop_index(
        "uq_contact_merge_loser_id", table_name="contact_merge", postgresql_where=sa.text("undone_at is null")
    )
    op.drop_index("ix_contact_merge_winner_id", table_name="contact_merge")
    op.drop_index(
        "ix_contact_merge_unsettled", table_name="contact_merge", postgresql_where=sa.text("settled_at is null")
    )
    op.drop_index("ix_contact_merge_now_id", table_name="contact_merge", postgresql_where=sa.text("undone_at is null"))
    op.drop_table("contact_merge")

"""Watch deliveries that have a deadline."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema forward."""
    op.create_table(
        "message_watch",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("provider_id", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="Of the message"),
        sa.Column(
            "due_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it has to be delivered; null once another provider has it",
        ),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("provider_message_id", sa.Text(), nullable=True, comment="By which this provider may still report"),
        sa.PrimaryKeyConstraint("message_id", "provider_id", name=op.f("pk_message_watch")),
        comment="Messages of providers that have a deadline for delivery (undelivered_after)",
    )
    op.create_index(
        "ix_message_watch_due_at",
        "message_watch",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("due_at is not null"),
    )
    op.create_index(
        "ix_message_watch_provider_message_id", "message_watch", ["provider_message_id", "provider_id"], unique=False
    )
    op.alter_column(
        "message_settlement",
        "word",
        existing_type=sa.Text(),
        existing_nullable=False,
        comment="sent, not-sent, retried, passed on",
        existing_comment="sent, not-sent, retried",
    )


def downgrade() -> None:
    """Take it back."""
    op.alter_column(
        "message_settlement",
        "word",
        existing_type=sa.Text(),
        existing_nullable=False,
        comment="sent, not-sent, retried",
        existing_comment="sent, not-sent, retried, passed on",
    )
    op.drop_index("ix_message_watch_provider_message_id", table_name="message_watch")
    op.drop_index("ix_message_watch_due_at", table_name="message_watch", postgresql_where=sa.text("due_at is not null"))
    op.drop_table("message_watch")

"""Let broadcasts take turns; count looks at splits; leave out events that cannot be routed."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema forward."""
    op.create_table(
        "split_look",
        sa.Column("journey_id", sa.Integer(), nullable=False),
        sa.Column("salt", sa.Text(), nullable=False),
        sa.Column("arms", sa.Text(), nullable=False),
        sa.Column("looks", sa.SmallInteger(), nullable=False, comment="How often it was looked whether an arm has won"),
        sa.Column("successes", sa.Integer(), nullable=False, comment="Of all arms, at the last look"),
        sa.PrimaryKeyConstraint("journey_id", "salt", "arms", name=op.f("pk_split_look")),
        comment="Splits that are not decided yet; each look may err, so looks are few and counted",
    )
    op.create_table(
        "unrouted_event",
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "version_id",
            sa.Integer(),
            nullable=False,
            comment="Whose criteria failed on it; 0 if nobody could take it in",
        ),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("left_out_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("error", sa.Text(), nullable=False, comment="The error's name"),
        sa.PrimaryKeyConstraint("event_id", "version_id", name=op.f("pk_unrouted_event")),
        comment="Events that the router left out, because it failed on them",
    )
    op.add_column(
        "broadcast",
        sa.Column("priority", sa.SmallInteger(), server_default="5", nullable=False, comment="1 goes first"),
    )
    op.add_column(
        "broadcast",
        sa.Column("served_at", sa.DateTime(timezone=True), nullable=True, comment="When its last page was let in"),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_column("broadcast", "served_at")
    op.drop_column("broadcast", "priority")
    op.drop_table("unrouted_event")
    op.drop_table("split_look")

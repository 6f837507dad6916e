"""Follow the branches of enrollments."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema forward."""
    op.add_column(
        "enrollment",
        sa.Column(
            "branch_steps",
            postgresql.ARRAY(sa.SmallInteger()),
            nullable=True,
            comment="Where its parallel branches stand; null while it has none",
        ),
    )
    op.add_column(
        "enrollment",
        sa.Column(
            "branch_ends",
            postgresql.ARRAY(sa.DateTime(timezone=True)),
            nullable=True,
            comment="When the wait of each of these branches ends",
        ),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_column("enrollment", "branch_ends")
    op.drop_column("enrollment", "branch_steps")

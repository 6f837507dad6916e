"""Say of enrollments that criteria ended them: `closed_by` is 0 then."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema forward."""
    op.alter_column(
        "enrollment",
        "closed_by",
        existing_type=sa.BigInteger(),
        existing_nullable=True,
        existing_comment="The event that reached a goal or an exit, as the router saw it",
        comment="The event that reached a goal or an exit, as the router saw it; 0 if criteria did",
    )


def downgrade() -> None:
    """Take it back."""
    op.alter_column(
        "enrollment",
        "closed_by",
        existing_type=sa.BigInteger(),
        existing_nullable=True,
        existing_comment="The event that reached a goal or an exit, as the router saw it; 0 if criteria did",
        comment="The event that reached a goal or an exit, as the router saw it",
    )

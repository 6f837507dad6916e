"""Mark which events are hits of a site."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema forward."""
    op.add_column(
        "event",
        sa.Column(
            "site_id",
            sa.Integer(),
            nullable=True,
            comment="The site whose page reported it; null if a server did, or Kaskad itself",
        ),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_column("event", "site_id")

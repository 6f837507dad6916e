"""Let sites sign who their visitors are, and keep the rejected rows of uploads for a while."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema forward."""
    op.create_table(
        "import_reject",
        sa.Column("import_id", sa.Integer(), nullable=False),
        sa.Column("line", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("column", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("cells", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["import_id"],
            ["contact_import.id"],
            name=op.f("fk_import_reject_import_id_contact_import"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("import_id", "line", name=op.f("pk_import_reject")),
        comment="Rows of uploaded files that were left out: for a few days, and so many of an import",
    )
    op.create_index("ix_import_reject_noted_at", "import_reject", ["noted_at"], unique=False)
    op.add_column(
        "site",
        sa.Column(
            "identify",
            sa.Text(),
            server_default="signed",
            nullable=False,
            comment="Whose word on who a visitor is counts",
        ),
    )
    op.add_column(
        "site", sa.Column("secret", sa.Text(), nullable=True, comment="Signs who a visitor is; never in a page")
    )
    op.execute("update site set secret = replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')")
    op.alter_column("site", "secret", nullable=False)
    op.create_check_constraint(op.f("ck_site_identify"), "site", "identify in ('signed', 'open')")


def downgrade() -> None:
    """Take it back."""
    op.drop_constraint(op.f("ck_site_identify"), "site")
    op.drop_column("site", "secret")
    op.drop_column("site", "identify")
    op.drop_index("ix_import_reject_noted_at", table_name="import_reject")
    op.drop_table("import_reject")

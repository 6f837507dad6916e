"""Companies that contacts belong to."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        "company",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False, comment="What it is known by outside: a domain …"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "attributes", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_company")),
        sa.UniqueConstraint("key", name=op.f("uq_company_key")),
    )
    op.add_column("contact", sa.Column("company_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(
        op.f("fk_contact_company_id_company"), "contact", "company", ["company_id"], ["id"], ondelete="SET NULL"
    )
    op.create_index(
        "ix_contact_company_id",
        "contact",
        ["company_id"],
        unique=False,
        postgresql_where=sa.text("company_id is not null"),
    )


def downgrade() -> None:
    """Go back from it."""
    op.drop_index("ix_contact_company_id", table_name="contact")
    op.drop_constraint(op.f("fk_contact_company_id_company"), "contact", type_="foreignkey")
    op.drop_column("contact", "company_id")
    op.drop_table("company")

"""A published journey version never changes (invariant 6): the database itself refuses it."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the trigger."""
    op.execute(
        """
        create function refuse_change() returns trigger language plpgsql as $$
        begin
            raise exception 'a published journey version never changes: publish a new one'
                using errcode = 'restrict_violation';
        end $$
        """
    )
    op.execute(
        "create trigger journey_version_never_changes before update or delete or truncate on journey_version "
        "for each statement execute function refuse_change()"
    )


def downgrade() -> None:
    """Take it away."""
    op.execute("drop trigger journey_version_never_changes on journey_version")
    op.execute("drop function refuse_change()")

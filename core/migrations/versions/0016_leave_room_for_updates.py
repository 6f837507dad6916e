"""Leave room for updates in the pages of enrollments and messages."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# Pages that are full already stay so until their rows are rewritten.
_OF_MESSAGES = """
do $$
declare part regclass;
begin
    for part in select inhrelid from pg_inherits where inhparent = 'message'::regclass loop
        execute format('alter table %s {}', part);
    end loop;
end $$
"""


def upgrade() -> None:
    """Bring the schema forward."""
    op.execute("alter table enrollment set (fillfactor = 50)")
    op.execute(_OF_MESSAGES.format("set (fillfactor = 70)"))


def downgrade() -> None:
    """Take it back."""
    op.execute("alter table enrollment set (fillfactor = 80)")
    op.execute(_OF_MESSAGES.format("reset (fillfactor)"))

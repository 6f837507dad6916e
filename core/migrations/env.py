"""What alembic runs for each command; the connection is handed in by core.migrate."""

from typing import Any

from alembic import context
from alembic.operations.ops import ExecuteSQLOp
from sqlalchemy import inspect

from core.migrate import compared
from core.schema import metadata

connection = context.config.attributes["connection"]


def add_sequences(_context: Any, _revision: Any, directives: list[Any]) -> None:
    """Autogenerate does not see sequences: those that the models name and the database lacks are made first."""
    present = set(inspect(connection).get_sequence_names())
    for name in sorted(set(metadata._sequences) - present, reverse=True):
        directives[0].upgrade_ops.ops.insert(0, ExecuteSQLOp(f"create sequence {name}"))
        directives[0].downgrade_ops.ops.append(ExecuteSQLOp(f"drop sequence {name}"))


context.configure(
    connection=connection,
    target_metadata=metadata,
    include_object=compared,
    compare_type=True,
    compare_server_default=True,
    process_revision_directives=add_sequences,
)
context.run_migrations()

"""Bringing a database to the schema of this version of Kaskad."""

import re
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from core import maintenance
from core.database import Database
from core.errors import Conflict, Misconfigured
from core.schema import metadata, partitions
from core.settings import Settings

OLDEST_SERVER = 150000
_LOCK = 7340
_PARTITION = re.compile(rf"({'|'.join(partitions.PARTITIONED)})_\d{{4}}_\d\d")


async def migrate(database: Database, settings: Settings | None = None) -> None:
    """Create or update the schema, then make the partitions that the coming months need.

    Any number of processes may call it at once: one does the work while the others wait.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer.
        Misconfigured: the server is older than PostgreSQL 15 or does not keep text as UTF-8.
        Conflict: the database was migrated by a newer Kaskad.
    """
    async with database.begin() as connection:
        await connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        await connection.run_sync(_upgrade)
    await maintenance.maintain(database, settings or Settings())


async def is_current(database: Database) -> bool:
    """Whether the database has the schema of this version."""
    async with database.begin() as connection:
        return await connection.run_sync(_revision) == newest()


def newest() -> str | None:
    """The revision that this version of Kaskad works with."""
    return ScriptDirectory.from_config(_config(None)).get_current_head()


def differences(connection: Connection) -> list[Any]:
    """What separates a migrated database from the tables in core.schema; empty when they agree."""
    context = MigrationContext.configure(
        connection,
        opts={"include_object": compared, "compare_type": True, "compare_server_default": True},
    )
    return list(compare_metadata(context, metadata))


def compared(_item: Any, name: str | None, kind: str, reflected: bool, _twin: Any) -> bool:
    """Whether alembic compares a thing: partitions come and go by themselves, so they are left out."""
    return not (kind == "table" and reflected and name is not None and _PARTITION.fullmatch(name))


def write_revision(connection: Connection, name: str) -> Path:
    """Write the migration that takes a database from the newest revision to core.schema.

    Args:
        connection: to an empty database, which is migrated to the newest revision on the way.
        name: what the migration does, in a few words; the file is called after it.

    Returns:
        The new file, numbered one above the newest. Where models and migrations agree already, its functions are
        empty: for what is written by hand.
    """
    upgrade(connection)
    number = f"{int(newest() or 0) + 1:04}"
    command.revision(_config(connection), message=name, autogenerate=True, rev_id=number)
    return next(Path(__file__).with_name("migrations").glob(f"versions/{number}_*.py"))


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Take a database to a revision, with everything in it; the newest one unless another is named."""
    command.upgrade(_config(connection), revision)


def _upgrade(connection: Connection) -> None:
    version = connection.scalar(text("select current_setting('server_version_num')::int"))
    if version < OLDEST_SERVER:
        raise Misconfigured(f"this is PostgreSQL {version // 10000}; Kaskad needs 15 or newer")
    encoding = connection.scalar(text("select current_setting('server_encoding')"))
    if encoding != "UTF8":
        raise Misconfigured(
            f"the database keeps text as {encoding}; create one with `create database … encoding 'UTF8'`"
        )
    present = _revision(connection)
    script = ScriptDirectory.from_config(_config(None))
    if present is not None and present not in {one.revision for one in script.walk_revisions()}:
        raise Conflict(
            f"the database has schema {present}, which this Kaskad does not know: it was migrated by a newer "
            "version; upgrade Kaskad to that one"
        )
    if present != script.get_current_head():
        upgrade(connection)


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.attributes["connection"] = connection
    return config

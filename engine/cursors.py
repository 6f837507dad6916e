"""How far those who read the log, contacts or the calendar have come: rows of `log_cursor`, moved in the transaction
that does what lies before them."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


async def position(connection: AsyncConnection, reader: str, beginning: str) -> int:
    """Where a reader stands; it begins at an SQL expression of ours. Other transactions wait for this one's end."""
    await connection.execute(
        text(
            f"insert into log_cursor (reader, position) values (:reader, {beginning}) "  # noqa: S608 -- a constant
            "on conflict do nothing"
        ),
        {"reader": reader},
    )
    row = await connection.execute(
        text("select position from log_cursor where reader = :reader for update"), {"reader": reader}
    )
    return int(row.scalar_one())


async def move(connection: AsyncConnection, reader: str, to: int) -> None:
    """Let a reader stand at a position."""
    await connection.execute(
        text("update log_cursor set position = :position, moved_at = now() where reader = :reader"),
        {"reader": reader, "position": to},
    )


async def forget(connection: AsyncConnection, readers: list[str]) -> None:
    """Let readers begin anew."""
    await connection.execute(text("delete from log_cursor where reader = any(:readers)"), {"readers": readers})

"""Texts with values in them that stand in a journey, such as the body of a call."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from channels.filling import Unfilled, fill, fill_data, fill_header, fill_url
from channels.letters import contexts_of
from channels.rendering import Compiled

__all__ = ["Unfilled", "fill", "fill_data", "fill_header", "fill_url", "values"]

_ALL = Compiled({"variables": ["event", "contact.email"]})


async def values(connection: AsyncConnection, enrollments: Sequence[int]) -> dict[int, dict[str, Any]]:
    """What texts find under `contact`, `event` and `journey`, for each enrollment whose contact still exists."""
    return await contexts_of(connection, enrollments, [_ALL])

"""Published journey versions as the engine needs them, read once and kept: they never change."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.errors import NotFound
from journeys.plan import Plan


@dataclass(frozen=True)
class Version:
    """One published version."""

    id: int
    journey_id: int
    journey: str
    plan: Plan
    data: dict[str, Any]
    """The plan as JSON, to be put into a workflow's input."""


class Versions:
    """A cache of versions."""

    def __init__(self) -> None:
        self._known: dict[int, Version] = {}

    def kept(self, version_id: int) -> Version | None:
        """The version, if it was read before."""
        return self._known.get(version_id)

    async def get(self, connection: AsyncConnection, version_id: int) -> Version:
        """The version with this id.

        Raises:
            NotFound: no version has it.
        """
        found = await self.get_all(connection, [version_id])
        if version_id not in found:
            raise NotFound(f"no journey version {version_id}")
        return found[version_id]

    async def get_all(self, connection: AsyncConnection, version_ids: list[int]) -> dict[int, Version]:
        """The versions with these ids, as far as they exist."""
        missing = [number for number in version_ids if number not in self._known]
        if missing:
            rows = await connection.execute(
                text(
                    "select v.id, v.journey_id, j.name, v.plan from journey_version v "
                    "join journey j on j.id = v.journey_id where v.id = any(:ids)"
                ),
                {"ids": missing},
            )
            for number, journey_id, name, data in rows:
                self._known[number] = Version(number, journey_id, name, Plan.model_validate(data), data)
        return {number: self._known[number] for number in version_ids if number in self._known}

"""What exists when a journey is published, for steps to compare with what they name."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from core.documents import Document, Path, did_you_mean
from core.errors import Problem
from core.schema.messages import provider
from core.settings import Settings

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the installation can do by its settings, as the process that publishes was given them."""

    reads_replies: bool = False
    """Whether mail comes in."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings say."""
        return cls(settings.inbound_address is not None)


NO_ABILITIES = Abilities()


class Known:
    """The database that a journey is published to."""

    def __init__(
        self,
        connection: AsyncConnection,
        journey: str,
        document: Document,
        types: Mapping[str, str],
        *,
        by_event: bool,
        abilities: Abilities = NO_ABILITIES,
        asking: Mapping[str, str] | None = None,
    ) -> None:
        self.connection = connection
        self.journey = journey
        """The name of the journey; it may name itself."""
        self.types = types
        """Attributes of contacts, with their types."""
        self.by_event = by_event
        """Whether contacts enter by an event, which has properties."""
        self.abilities = abilities
        self.asking = asking or {}
        """The journey's steps that send letters and have an id, with their templates."""
        self._document = document
        self._read: dict[Any, Any] = {}

    def problem(self, path: Path, message: str, mend: str = "") -> Problem:
        """A problem at a place of the file."""
        return self._document.problem(path, message, mend)

    async def once(self, read: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
        """What a function reads from the database, which is asked once for all steps."""
        if read not in self._read:
            self._read[read] = await read(self.connection)
        found: _T = self._read[read]
        return found

    def missing(self, path: Path, what: str, name: str, known: tuple[str, ...], mend: str) -> Problem:
        """That a name is not known: `there is no journey onbarding (did you mean onboarding?)`."""
        near = did_you_mean(name, known)
        return self.problem(path, f"there is no {what} {name}", near if near.startswith("did") else mend)

    async def carries(self, path: Path, channel: str) -> list[Problem]:
        """Whether a provider carries what is sent by a channel."""
        if channel in await self.once(_carried):
            return []
        mend = f"add one: kaskad provider add NAME URL, with a URL for {channel}"
        return [self.problem(path, f"no provider carries {channel} yet", mend)]

    def wants(self, path: Path, name: str, kinds: tuple[str, ...] = ()) -> list[Problem]:
        """Whether contacts have this attribute, of one of these types (any if none is given)."""
        kind = self.types.get(name)
        if kind is None:
            near = did_you_mean(name, tuple(self.types))
            mend = near if near.startswith("did") else "import contacts that have it, or create the attribute"
            return [self.problem(path, f"contacts have no attribute {name}", mend)]
        if kinds and kind not in kinds:
            return [self.problem(path, f"the attribute {name} is a {kind}", f"name a {' or a '.join(kinds)}")]
        return []


async def _carried(connection: AsyncConnection) -> set[str]:
    """The channels that have a provider."""
    rows = await connection.execute(select(provider.c.channel).where(provider.c.state != "removed").distinct())
    return set(rows.scalars())

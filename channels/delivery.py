"""Handing prepared messages to their provider. See docs/delivery.md."""

from collections.abc import Callable

from channels import providers
from channels.attempt import Attempt
from channels.letters import Workshop
from channels.provider import AnyProvider
from channels.providers import Provider
from channels.rendering import Links, TemplateCache
from channels.requests import Delivered, DeliverRequest
from core.database import Database
from core.settings import Settings


class Delivery:
    """What a worker process delivers with: the database, open providers, compiled templates. One for a process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._workshop = Workshop(settings, Links(settings), TemplateCache())
        self._carriers: dict[tuple[str, str], AnyProvider] = {}

    async def deliver(self, request: DeliverRequest, heartbeat: Callable[[], None]) -> Delivered:
        """Hand over the items of a prepared batch and write down what became of each.

        The call may be repeated after any failure, and while an earlier one still runs: it goes on where the other
        stopped, and no letter is handed over by both. Letters that a dead attempt left in doubt are handed over
        again only if the request says so, or the provider knows its letters by their ids.

        Args:
            request: the items, all prepared with the same `at`.
            heartbeat: called every few seconds at least.

        Returns:
            The final word on every item, and who has those that were passed on to another provider.

        Raises:
            NotNow: nothing more can leave for a while; it says how long.
            NotFound: the provider does not exist any more.
            Superseded: a later call has taken over.
            DatabaseUnavailable: PostgreSQL went away.
        """
        async with self._database.begin() as connection:
            provider = await providers.anyone(connection, self._settings, request.provider)
        attempt = Attempt(self._database, self._workshop, provider, self._carrier(provider), request, heartbeat)
        return await attempt.run()

    async def close(self) -> None:
        """Close the providers' connections."""
        carriers, self._carriers = self._carriers, {}
        for carrier in carriers.values():
            await carrier.close()

    def _carrier(self, provider: Provider) -> AnyProvider:
        """The open provider. One whose URL has changed stays open beside the new one: letters may be on its wire."""
        key = (provider.name, provider.url)
        if key not in self._carriers:
            self._carriers[key] = provider.scheme.open(provider.url, self._settings)
        return self._carriers[key]

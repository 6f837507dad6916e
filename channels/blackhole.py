"""A provider that accepts everything and sends nothing: for load tests of what stands before it."""

from collections.abc import Sequence

from channels.provider import Letter, Outcome, Receipt


class Blackhole:
    """Takes every letter. It reads no content, so delivery renders none for it (see `Scheme.needs_content`)."""

    async def hand_over(self, letters: Sequence[Letter]) -> list[Receipt]:
        """Accept all."""
        return [Receipt(Outcome.ACCEPTED)] * len(letters)

    async def check(self) -> None:
        """Always fine."""

    async def close(self) -> None:
        """Nothing to give back."""

"""Consents and suppressions: what holds, and what the policy words mean."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from contacts import consents, resolve, suppressions
from core.database import Database
from core.errors import InvalidInput

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


async def test_what_was_said_last_holds_whatever_comes_first(database: Database) -> None:
    async with database.begin() as connection:
        [anna] = await resolve(connection, [("email", "anna@x.com")])

        async def said(granted: bool, at: datetime) -> set[int]:
            await consents.record(connection, [anna], "email", "marketing", granted, "api", {"n": 1}, at)
            return await consents.holds(connection, [anna, 10**9], "email", "marketing")

        assert await said(True, AT) == {anna}
        assert await said(True, AT + 2 * HOUR) == {anna}
        assert await said(False, AT + HOUR) == {anna}, "said before the confirmation"
        assert await said(False, AT + 2 * HOUR) == set(), "of two at once the refusal holds"
        assert await said(True, AT + 2 * HOUR) == set()
        assert await consents.holds(connection, [anna], "sms", "marketing") == set()
        assert [(one["granted"], one["recorded_at"]) for one in await consents.history(connection, anna)] == [
            (False, AT + 2 * HOUR),
            (True, AT + 2 * HOUR),
            (False, AT + HOUR),
            (True, AT),
        ]


async def test_a_statement_repeated_is_one(database: Database) -> None:
    async with database.begin() as connection:
        [anna] = await resolve(connection, [("email", "anna@x.com")])
        for _ in range(3):
            await consents.record(connection, [anna, anna, 10**9], "email", "news", True, "journey", {}, AT)
        assert len(await consents.history(connection, anna)) == 1


async def test_marketing_needs_a_consent_and_transactional_only_no_refusal(database: Database) -> None:
    async with database.begin() as connection:
        yes, no, silent = await resolve(connection, [("email", f"{n}@x.com") for n in range(3)])
        for purpose in ("marketing", "transactional"):
            await consents.record(connection, [yes], "email", purpose, True, "api", {}, AT)
            await consents.record(connection, [no], "email", purpose, False, "api", {}, AT)
        everyone = [yes, no, silent]
        assert await consents.permits(connection, everyone, "email", "marketing") == {yes}
        assert await consents.permits(connection, everyone, "email", "transactional") == {yes, silent}
        assert await consents.permits(connection, everyone, "email", "newsletter") == set()


@pytest.mark.parametrize(("channel", "purpose"), [("pigeon", "marketing"), ("email", "Big News"), ("email", "")])
def test_words_that_cannot_be(channel: str, purpose: str) -> None:
    with pytest.raises(InvalidInput):
        consents.check_words(channel, purpose)


async def test_suppressions(database: Database) -> None:
    async with database.begin() as connection:
        await suppressions.suppress(connection, "email", ["a@x.com", "b@x.com"], "unsubscribed")
        await suppressions.suppress(connection, "email", ["a@x.com"], "bounced", "550")
        await suppressions.suppress(connection, "email", ["a@x.com"], "unsubscribed")
        asked = ["a@x.com", "b@x.com", "c@x.com"]
        assert await suppressions.suppressed(connection, "email", asked) == {
            "a@x.com": "bounced",
            "b@x.com": "unsubscribed",
        }
        assert await suppressions.suppressed(connection, "sms", asked) == {}
        assert await suppressions.lift(connection, "email", ["b@x.com", "c@x.com"]) == 1
        await suppressions.forget(connection, ["a@x.com"])
        assert await suppressions.suppressed(connection, "email", asked) == {"a@x.com": "bounced"}
        stored = (await connection.execute(text("select address from suppression"))).scalars().all()
        assert all("a@x.com" not in address for address in stored)
        assert await suppressions.lift(connection, "email", ["a@x.com"]) == 1
        with pytest.raises(InvalidInput):
            await suppressions.suppress(connection, "email", ["a@x.com"], "dislike")


@pytest.mark.parametrize(
    ("reason", "purpose", "blocked"),
    [
        ("unsubscribed", "marketing", True),
        ("unsubscribed", "transactional", False),
        ("bounced", "transactional", True),
        ("complained", "transactional", True),
        ("manual", "marketing", True),
    ],
)
def test_what_a_suppression_blocks(reason: str, purpose: str, blocked: bool) -> None:
    assert suppressions.blocks(reason, purpose) is blocked

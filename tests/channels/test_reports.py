"""What providers report later: on the row, in suppressions and consents, in the log; once, in whatever order."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from channels import Item
from channels.provider import Letter, Outcome, Receipt, Report, ReportKind
from channels.reports import Taken, refused_addresses, take
from contacts import erasure
from core.ids import message_id
from core.schema.messages import MessageState
from tests.channels.world import World


async def _report(world: World, *reports: Report, provider: str = "main", raw: bytes | None = None) -> Taken:
    [row] = await world.run("select id from provider where name = :name", name=provider)
    async with world.database.begin() as connection:
        return await take(connection, row.id, reports, raw)


async def _sent(world: World, at: datetime, count: int = 1) -> list[Item]:
    items = await world.enroll(count)
    await world.prepare(items, at)
    await world.deliver(items, at)
    return items


def _id(item: Item) -> UUID:
    return message_id(item.enrollment_id, item.visit)


def _of(item: Item, kind: ReportKind, at: datetime, **more: Any) -> Report:
    return Report(kind, more.pop("key", f"{kind}-{item.enrollment_id}"), at, message_id=_id(item), **more)


async def _events(world: World) -> list[tuple[str, dict[str, Any]]]:
    rows = await world.run(
        "select n.name, e.properties from event e join event_name n on n.id = e.name_id order by e.id"
    )
    return [(row.name, row.properties) for row in rows]


async def test_a_delivery_is_on_the_row_in_the_history_and_in_the_log(world: World, at: datetime) -> None:
    [item] = await _sent(world, at)
    taken = await _report(world, _of(item, ReportKind.DELIVERED, at, reason="250 ok"), raw=b"{}")
    assert taken == Taken(new=1, unmatched=0)
    [row] = await world.run("select state, delivered_at, opened_at from message")
    assert (row.state, row.delivered_at, row.opened_at) == (MessageState.DELIVERED, at, None)
    [kept] = await world.run("select message_id, kind, reason, raw is not null as raw from delivery_report")
    assert tuple(kept) == (_id(item), "delivered", "250 ok", True)
    about = {"message": str(_id(item)), "channel": "email", "journey": "welcome", "step": "first", "template": "letter"}
    assert await _events(world) == [("message.delivered", about)]


@pytest.mark.parametrize("years", [-11, 11])
async def test_a_report_with_a_time_of_another_decade_is_taken_all_the_same(
    world: World, at: datetime, years: int
) -> None:
    [item] = await _sent(world, at)
    said = at + timedelta(days=365 * years)
    assert (await _report(world, _of(item, ReportKind.DELIVERED, said))).new == 1
    [kept] = await world.run("select reported_at from delivery_report")
    assert kept.reported_at == said
    [event] = await world.run("select occurred_at from event")
    assert at - timedelta(days=31) < event.occurred_at < at + timedelta(hours=1)


async def test_what_comes_again_changes_nothing(world: World, at: datetime) -> None:
    [item] = await _sent(world, at)
    report = _of(item, ReportKind.CLICKED, at, details={"url": "https://a.example"})
    assert await _report(world, report, report) == Taken(1, 0)
    assert await _report(world, report) == Taken(0, 0)
    [(name, properties)] = await _events(world)
    assert (name, properties["url"]) == ("message.clicked", "https://a.example/")


async def test_two_reports_of_one_key_and_different_kinds_are_two(world: World, at: datetime) -> None:
    [item] = await _sent(world, at)
    keys = [_of(item, kind, at, key="smtp-1") for kind in (ReportKind.DELIVERED, ReportKind.OPENED)]
    assert await _report(world, *keys) == Taken(2, 0)


_STORY = (ReportKind.DELIVERED, ReportKind.OPENED, ReportKind.CLICKED, ReportKind.DEFERRED)


@pytest.mark.parametrize("order", list(permutations(range(len(_STORY))))[::5])
async def test_the_order_of_reports_does_not_matter(world: World, at: datetime, order: Sequence[int]) -> None:
    [item] = await _sent(world, at)
    for place in order:
        await _report(world, _of(item, _STORY[place], at + timedelta(seconds=place)))
    [row] = await world.run("select state, delivered_at, opened_at, clicked_at from message")
    assert tuple(row) == (MessageState.DELIVERED, at, at + timedelta(seconds=1), at + timedelta(seconds=2))


async def test_the_earliest_time_stays(world: World, at: datetime) -> None:
    [item] = await _sent(world, at)
    later, earlier = at + timedelta(hours=1), at + timedelta(minutes=1)
    await _report(world, _of(item, ReportKind.OPENED, later, key="b"), _of(item, ReportKind.OPENED, earlier, key="a"))
    [row] = await world.run("select opened_at from message")
    assert row.opened_at == earlier


async def test_a_bounce_for_good_suppresses_the_address_and_a_soft_one_does_not(world: World, at: datetime) -> None:
    hard, soft = await _sent(world, at, 2)
    await _report(
        world,
        _of(hard, ReportKind.BOUNCED, at, reason="550 no such user"),
        _of(soft, ReportKind.SOFT_BOUNCED, at, reason="452 mailbox full"),
    )
    rows = await world.rows()
    assert [(row.state, row.reason) for row in rows] == [(70, "550 no such user"), (70, "452 mailbox full")]
    assert [tuple(row) for row in await world.run("select address, reason from suppression")] == [
        (rows[0].address, "bounced")
    ]
    assert [(name, properties["permanent"]) for name, properties in await _events(world)] == [
        ("message.bounced", True),
        ("message.bounced", False),
    ]


async def test_a_bounce_after_a_delivery_counts_and_a_delivery_after_a_bounce_does_not(
    world: World, at: datetime
) -> None:
    one, other = await _sent(world, at, 2)
    await _report(world, _of(one, ReportKind.DELIVERED, at), _of(one, ReportKind.BOUNCED, at))
    await _report(world, _of(other, ReportKind.BOUNCED, at))
    await _report(world, _of(other, ReportKind.DELIVERED, at))
    assert await world.states() == [MessageState.BOUNCED, MessageState.BOUNCED]


async def test_a_complaint_withdraws_the_consent_and_suppresses(world: World, at: datetime) -> None:
    [item] = await _sent(world, at)
    await _report(world, _of(item, ReportKind.COMPLAINED, at + timedelta(seconds=5)))
    [consent] = await world.run("select granted from consent")
    [record] = await world.run("select source, evidence from consent_record where not granted")
    assert not consent.granted
    assert (record.source, record.evidence["message"]) == ("provider", str(_id(item)))
    assert [row.reason for row in await world.run("select reason from suppression")] == ["complained"]


async def test_what_a_machine_opened_is_told_and_not_counted(world: World, at: datetime) -> None:
    [item] = await _sent(world, at)
    await _report(world, _of(item, ReportKind.OPENED, at, details={"machine": True}))
    [row] = await world.run("select opened_at from message")
    assert row.opened_at is None
    assert [properties["machine"] for _, properties in await _events(world)] == [True]


async def test_an_unknown_word_is_kept_and_does_nothing_else(world: World, at: datetime) -> None:
    [item] = await _sent(world, at)
    assert await _report(world, _of(item, ReportKind.UNKNOWN, at, reason="zapped")) == Taken(1, 0)
    assert await world.states() == [MessageState.ACCEPTED]
    assert await _events(world) == []


async def test_the_providers_own_id_finds_the_message_and_another_providers_does_not(
    world: World, at: datetime
) -> None:
    [item] = await _sent(world, at)
    theirs = f"id-{_id(item)}"
    async with world.database.begin() as connection:
        await connection.exec_driver_sql(
            "insert into provider (name, channel, secret) select 'other', channel, secret from provider"
        )
    stranger = Report(ReportKind.BOUNCED, "k", at, provider_message_id=theirs)
    assert await _report(world, stranger, provider="other") == Taken(1, 1)
    assert await world.states() == [MessageState.ACCEPTED]
    assert await _report(world, Report(ReportKind.DELIVERED, "k", at, provider_message_id=theirs)) == Taken(1, 0)
    assert await world.states() == [MessageState.DELIVERED]


async def test_a_report_settles_what_was_in_doubt(world: World, at: datetime) -> None:
    async def unknown(letters: Sequence[Any]) -> list[Receipt]:
        return [Receipt(Outcome.UNKNOWN, reason="the line dropped") for _ in letters]

    world.recorder.behaviour = unknown
    [item] = await _sent(world, at)
    assert await world.states() == [MessageState.IN_DOUBT]
    await _report(world, _of(item, ReportKind.DELIVERED, at))
    assert [(row.state, row.reason) for row in await world.rows()] == [(MessageState.DELIVERED, None)]


async def test_a_report_may_overtake_the_answer_to_its_own_hand_over(world: World, at: datetime) -> None:
    items = await world.enroll(3)
    await world.prepare(items, at)

    async def report_first(letters: Sequence[Any]) -> list[Receipt]:
        await _report(world, *(_of(item, ReportKind.DELIVERED, at) for item in items))
        return [Receipt(Outcome.ACCEPTED, f"id-{letter.message_id}") for letter in letters]

    world.recorder.behaviour = report_first
    done = await world.deliver(items, at)
    assert set(done.states.values()) == {"accepted"}
    assert await world.states() == [MessageState.DELIVERED] * 3


async def test_nothing_personal_is_kept_of_an_erased_contact(world: World, at: datetime) -> None:
    first, second = await _sent(world, at, 2)
    await _report(
        world, _of(first, ReportKind.CLICKED, at, details={"url": "https://a.example/?for=anna"}), raw=b"anna"
    )
    for item in (first, second):
        [row] = await world.run("select contact_id from enrollment where id = :id", id=item.enrollment_id)
        async with world.database.begin() as connection:
            await erasure.erase(connection, row.contact_id)
    assert await world.run("select 1 from delivery_report") == []
    late = _of(second, ReportKind.BOUNCED, at, reason="550 anna@example.com unknown", details={"text": "anna"})
    await _report(world, late, raw=b"anna")
    [kept] = await world.run("select reason, details, raw from delivery_report")
    assert tuple(kept) == (None, None, None)
    [row] = await world.run("select state, reason from message where id = :id", id=_id(second))
    assert row.state == MessageState.BOUNCED
    assert row.reason is None


async def _refusing(_letters: Sequence[Letter]) -> list[Receipt]:
    return [Receipt(Outcome.REJECTED, reason="RCPT: 550 5.1.1 no such user", no_such_address=True)]


async def test_an_address_that_is_refused_as_unknown_has_bounced_for_good(world: World, at: datetime) -> None:
    [item] = await world.enroll(1)
    await world.prepare([item], at)
    world.recorder.behaviour = _refusing
    assert (await world.deliver([item], at)).states == {item.enrollment_id: "failed"}
    [row] = await world.rows()
    assert row.state == MessageState.FAILED
    [held] = await world.run("select channel, address, reason from suppression")
    assert tuple(held) == ("email", row.address, "bounced")
    [kept] = await world.run("select message_id, kind, reason from delivery_report")
    assert tuple(kept) == (_id(item), "bounced", "RCPT: 550 5.1.1 no such user")
    [(name, properties)] = await _events(world)
    assert (name, properties["permanent"], properties["step"]) == ("message.bounced", True, "first")
    [minute] = await world.run("select coalesce(sum(failed + undelivered), 0) as bad from provider_minute")
    assert minute.bad == 0  # it is not the provider's fault
    later = at + timedelta(hours=1)
    [verdict] = await world.prepare([Item(item.enrollment_id, 2)], later)
    assert verdict.reason == "suppressed: bounced"


async def test_a_refused_address_is_written_down_once(world: World, at: datetime) -> None:
    [item] = await world.enroll(1)
    await world.prepare([item], at)
    world.recorder.behaviour = _refusing
    await world.deliver([item], at)
    async with world.database.begin() as connection:  # the commit was not heard of
        await refused_addresses(connection, 1, {_id(item): "RCPT: 550 5.1.1 no such user"}, at)
        await refused_addresses(connection, 2, {_id(item): "of another provider's message"}, at)
    assert len(await _events(world)) == 1
    assert [row.kind for row in await world.run("select kind from delivery_report")] == ["bounced"]


async def test_another_refusal_suppresses_nobody(world: World, at: datetime) -> None:
    async def refuse(_letters: Sequence[Letter]) -> list[Receipt]:
        return [Receipt(Outcome.REJECTED, reason="RCPT: 554 5.7.1 blocked")]

    [item] = await world.enroll(1)
    await world.prepare([item], at)
    world.recorder.behaviour = refuse
    await world.deliver([item], at)
    assert (await world.run("select 1 from suppression"), await _events(world)) == ([], [])

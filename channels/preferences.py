"""The preference page of a contact: what stands on it, and what a form that comes back means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels.hits import Subscription
from channels.tokens import Token
from contacts import consents, optin, preferences
from contacts.preferences import Changed, Pair, Preferences, Purpose, Wish
from core import eventlog

SOURCE = "preference page"
CHANGED = "preferences.changed"
OFTEN = (1, 2, 3, 5, 7)
"""Messages a week that can be chosen; another number, set otherwise, is shown beside them."""


@dataclass(frozen=True)
class Choice:
    """One box to tick."""

    channel: str
    purpose: Purpose
    granted: bool
    pending: bool
    """Whether it waits for the contact's confirmation."""

    @property
    def value(self) -> str:
        """In the form."""
        return f"{self.channel}:{self.purpose.name}"


@dataclass(frozen=True)
class Board:
    """What stands on a contact's page."""

    held: Preferences
    choices: Sequence[Choice]

    @property
    def channels(self) -> list[str]:
        """Those with anything to choose."""
        return list(dict.fromkeys(choice.channel for choice in self.choices))


async def board(connection: AsyncConnection, letter: Subscription, at: datetime) -> Board | None:
    """What stands on the page that a letter links to, or None if the contact is gone.

    That is: what is offered on channels that somebody carries and the contact has an address for; what the contact has
    said something about, wherever; and what the letter was sent under.
    """
    held = await preferences.read(connection, letter.contact_id)
    if held is None:
        return None
    offered = {one.name: one for one in await preferences.purposes(connection)}
    carried = set(
        (await connection.execute(text("select distinct channel from provider where state <> 'removed'"))).scalars()
    )
    waits = set(await optin.pending(connection, letter.contact_id, None, at))
    return Board(held, arrange(held, offered, carried, (letter.channel, letter.purpose), waits))


def arrange(
    held: Preferences, offered: Mapping[str, Purpose], carried: set[str], sent_under: Pair, waits: set[Pair]
) -> list[Choice]:
    """The boxes of a page, channel by channel, in the order that purposes are offered in."""
    pairs = {
        (channel, purpose.name)
        for purpose in offered.values()
        for channel in purpose.channels
        if channel in held.channels & carried
    }
    pairs |= {*held.consents, sent_under, *waits}
    # Transactional messages are asked about only by those who refused them: here they can have them again.
    shown = [pair for pair in pairs if consents.needed(pair[1]) or held.consents.get(pair) is False]
    order = list(offered)

    def place(pair: Pair) -> tuple[int, int, str]:
        known = order.index(pair[1]) if pair[1] in offered else len(order)
        return consents.CHANNELS.index(pair[0]), known, pair[1]

    def choice(pair: Pair) -> Choice:
        purpose = offered.get(pair[1], preferences.MARKETING if pair[1] == consents.MARKETING else None)
        named = purpose or Purpose(pair[1], (pair[0],), {})
        granted = held.consents.get(pair) is True
        return Choice(pair[0], named, granted, pair in waits and not granted)

    return [choice(pair) for pair in sorted(shown, key=place)]


def wish_of(form: Mapping[str, Sequence[str]], board: Board) -> Wish:
    """What a form that came back asks for. What was not on the page, or makes no sense, is not asked for.

    Args:
        form: names to values.
        board: what stands on the page now.
    """
    ticked, shown = set(form.get("consent", ())), set(form.get("shown", ()))
    stop = form.get("action", ("",))[0] == "stop"
    wanted = {
        (choice.channel, choice.purpose.name): choice.value in ticked and not stop
        for choice in board.choices
        if stop or choice.value in shown
    }
    # Who never agreed and does not now has refused nothing.
    wanted = {pair: yes for pair, yes in wanted.items() if yes or board.held.consents.get(pair)}
    if stop:
        return Wish(wanted)
    often = {channel: _number(form[name][0]) for channel in board.channels if (name := f"often:{channel}") in form}
    return Wish(wanted, often, _word(form, "language"), _word(form, "time_zone"))


def _word(form: Mapping[str, Sequence[str]], name: str) -> str | None:
    return form.get(name, ("",))[0] or None


def _number(given: str) -> int | None:
    return int(given) if given.isascii() and given.isdecimal() and 1 <= len(given) <= 3 and int(given) > 0 else None


async def save(
    connection: AsyncConnection, token: Token, board: Board, wish: Wish, evidence: Mapping[str, Any], at: datetime
) -> Changed:
    """Write down what a contact chose on its page, with the proof, and tell the log.

    The last thing of its transaction.

    Raises:
        NotFound: the contact is gone.
        InvalidInput: a value that cannot be, which no page has.
    """
    contact_id = board.held.contact_id
    message = {"message": str(token.message_id)}
    changed = await preferences.choose(connection, contact_id, wish, SOURCE, {**message, **evidence}, at)
    if not changed:
        return changed
    told: list[tuple[str, dict[str, Any]]] = [
        ("message.unsubscribed", {**message, "channel": channel, "purpose": purpose})
        for (channel, purpose), granted in changed.consents.items()
        if not granted
    ]
    agreed = [f"{channel}:{purpose}" for (channel, purpose), granted in changed.consents.items() if granted]
    others = {name: value for name, (_, value) in changed.others.items()}
    told.append((CHANGED, {**message, "agreed": agreed, **others}))
    numbers = await eventlog.name_ids(connection, [name for name, _ in told])
    events = [
        eventlog.NewEvent(contact_id, numbers[name], at, msgspec.json.encode(properties)) for name, properties in told
    ]
    await eventlog.append(connection, events)
    return changed

"""Routes, prices, senders and operators, as a person types them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from channels import providers, registry, templates
from core.clock import now
from core.errors import InvalidInput
from journeys import store as journeys
from segments import store
from studio.cli import app
from tests.channels.world import LETTER, Recorder, World


@pytest.fixture(autouse=True)
def _installation(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KASKAD_DATABASE", world.database.url)
    monkeypatch.setenv("KASKAD_DATA", str(world.settings.data))


async def kaskad(*words: str) -> Result:
    """Run a command in a thread: it brings its own loop."""
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, list(words)))


async def done(*words: str) -> Any:
    """What a command that must succeed prints as JSON."""
    result = await kaskad(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


async def refused(*words: str) -> str:
    """The words of a command that must fail, in one line."""
    result = await kaskad(*words)
    assert result.exit_code == 1, result.output
    return " ".join(result.output.split())


@pytest.fixture
async def two(world: World, spare: Recorder) -> World:
    """Two providers of email."""
    async with world.database.begin() as connection:
        await providers.add(connection, world.settings, "second", "spare://")
    return world


async def test_routes_from_adding_to_removing(two: World) -> None:
    added = await done("route", "add", "second", "--tier", "0", "--operator", "example.com", "--hours", "09:00-21:00")
    [row] = await done("route", "list")
    assert (row["id"], row["provider"], row["tier"], row["hours"]) == (added["id"], "second", 0, "09:00-21:00")
    assert await done("route", "remove", str(added["id"])) == {"removed": added["id"]}
    assert "there is no route 99" in await refused("route", "remove", "99")
    assert "there is no provider 'third'" in await refused("route", "add", "third")
    words = await refused("route", "add", "second", "--country", "XX", "--prefix", "+7 916", "--tier", "-1")
    assert all(part in words for part in ("'XX' is no country", "'+7 916' is no prefix", "tier cannot be -1"))
    assert "are no hours" in await refused("route", "add", "second", "--hours", "nine")
    assert "is no time of the day" in await refused("route", "add", "second", "--hours", "9-21:00")


async def test_a_price_list_takes_the_place_of_the_one_before(two: World, tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text("provider,operator,amount,currency\nmain,,0.02,eur\nmain,example.com,0.015,EUR\nsecond,,0.03,EUR\n")
    for _ in range(2):
        assert await done("price", "import", str(file)) == {"prices": 3}
    file.write_text("provider;amount;currency\nmain;0,01;EUR\n")
    assert await done("price", "import", str(file)) == {"prices": 1}
    rows = await done("price", "list")
    assert [(row["provider"], row["amount"]) for row in rows] == [("main", "0.010000"), ("second", "0.030000")]
    assert len(await done("price", "list", "--provider", "second")) == 1


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("provider,amount\nmain,1", "first line does not fit: currency"),
        ("provider,amount,currency\nmain,much,EUR", "prices.csv:2:0: 'much' is no amount"),
        ("provider,amount,currency\nmain,-1,EUR", "no price of a message"),
        ("provider,amount,currency\nmain,0.0000001,EUR", "at most six places"),
        ("provider,amount,currency\nmain,NaN,EUR", "no price of a message"),
        ("provider,amount,currency\nmain,1,euro", "'euro' is no currency"),
        ("provider,amount,currency\nthird,1,EUR", "there is no provider 'third'"),
        ("provider,amount,currency\nmain,1,EUR\nmain,2,EUR", "line 2 has a price for the same"),
        ("provider,amount,currency\nmain,1,EUR\nsecond,2,RUB", "prices of email would be in EUR and RUB"),
        ("provider,country,amount,currency\nmain,RUS,1,EUR", "'RUS' is no country"),
    ],
)
async def test_a_price_list_that_cannot_be_changes_nothing(two: World, tmp_path: Path, lines: str, words: str) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(lines + "\n")
    assert words in await refused("price", "import", str(file))
    assert await done("price", "list") == []


async def test_operators_come_from_a_file(two: World, tmp_path: Path) -> None:
    file = tmp_path / "ranges.csv"
    file.write_text("from,to,operator,country\n+79160000000,+79169999999,MTS,RU\n")
    assert await done("operator", "import", str(file)) == {"ranges": 1}
    assert await done("operator", "list") == [{"country": "RU", "operator": "MTS", "ranges": 1, "numbers": 10_000_000}]
    assert "cannot be read" in await refused("operator", "import", str(tmp_path / "none.csv"))


@pytest.mark.parametrize(
    ("registered", "purposes", "why"),
    [
        ([], [], None),  # nobody keeps senders
        (["news@shop.example"], [], None),
        (["@shop.example"], [], None),
        (["other@shop.example"], [], "is no registered sender of email"),
        (["news@shop.example"], ["transactional"], "is not registered for marketing"),
        (["news@shop.example"], ["marketing"], None),
    ],
)
async def test_once_a_channel_has_senders_templates_name_one_of_them(
    two: World, registered: list[str], purposes: list[str], why: str | None
) -> None:
    for address in registered:
        await done("sender", "add", "email", address, *[word for one in purposes for word in ("--purpose", one)])
    source = LETTER.replace("subject:", 'purpose: marketing\nfrom: "Shop <News@Shop.example>"\nsubject:')
    async with two.database.begin() as connection:
        if why is None:
            await templates.publish(connection, source, "letter.html")
            return
        with pytest.raises(InvalidInput, match=why):
            await templates.publish(connection, source, "letter.html")


async def test_senders_from_adding_to_removing(two: World) -> None:
    await done("sender", "add", "sms", "EXPORT", "--country", "ru", "--purpose", "marketing")
    assert "is a sender of sms already" in await refused("sender", "add", "sms", "EXPORT")
    [row] = await done("sender", "list")
    assert (row["address"], row["countries"], row["purposes"]) == ("EXPORT", ["RU"], ["marketing"])
    await done("sender", "remove", "sms", "EXPORT")
    assert "is no sender of sms" in await refused("sender", "remove", "sms", "EXPORT")
    words = await refused("sender", "add", "pigeon", "x", "--purpose", "Not That")
    assert all(part in words for part in ("pigeon has no senders", "'Not That' is no purpose"))
    assert "is no address" in await refused("sender", "add", "email", "nobody")


async def test_a_dry_run_says_who_would_carry_what_and_why_not(two: World, tmp_path: Path) -> None:
    items = [*await two.enroll(3), *await two.enroll(2, consent=None)]
    contacts = [
        row.contact_id for row in await two.run("select contact_id from enrollment order by id") if row.contact_id
    ]
    assert len(contacts) == len(items)
    await two.run("update identity set value = 'x@corp.example' where contact_id = :id", id=contacts[0])
    await done("route", "add", "second", "--tier", "0", "--operator", "corp.example")
    file = tmp_path / "prices.csv"
    file.write_text("provider,amount,currency\nmain,0.01,EUR\n")
    await done("price", "import", str(file))
    async with two.database.begin() as connection:
        await store.publish(connection, "segment: readers\nname: Readers\nlist: []\n")
        await store.add_members(connection, "readers", contacts)
    tried = await done("route", "try", "--segment", "readers", "--channel", "email")
    assert tried["summary"] == [
        {
            "provider": "main", "reason": None, "messages": 2, "parts": 2, "cost": "0.020000", "currency": "EUR",
            "priced": "whole", "without_price": 0,
        },
        {
            "provider": "second", "reason": None, "messages": 1, "parts": 1, "cost": None, "currency": None,
            "priced": "whole", "without_price": 1,
        },
        {
            "provider": None, "reason": "no_consent", "messages": 2, "parts": None, "cost": None, "currency": None,
            "priced": None, "without_price": 0,
        },
    ]  # fmt: skip
    assert [one["provider"] for one in tried["contacts"]] == ["second", "main", "main", None, None]
    assert tried["contacts"][0]["then"] == ["main"]
    shown = await kaskad("route", "try", "--contact", str(contacts[0]), "--channel", "email")
    assert "second" in shown.output
    assert await two.run("select from message") == []
    assert "for whom?" in await refused("route", "try", "--channel", "email")
    assert "what is to be sent?" in await refused("route", "try", "--contact", "1")
    assert "--event is no JSON object" in await refused(
        "route", "try", "--contact", "1", "--channel", "email", "--event", "x"
    )
    assert "there is no channel pigeon" in await refused("route", "try", "--contact", "1", "--channel", "pigeon")


async def test_a_dry_run_of_texts_says_parts_and_price(
    two: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.SCHEMES, "texts", registry.Scheme("sms", lambda _url, _settings: Recorder()))
    monkeypatch.setenv("COLUMNS", "200")
    async with two.database.begin() as connection:
        await providers.add(connection, two.settings, "texts", "texts://")
    file = tmp_path / "prices.csv"
    file.write_text("provider,amount,currency\ntexts,0.10,EUR\n")
    await done("price", "import", str(file))
    await two.enroll(1)
    [row] = await two.run("select contact_id from enrollment")
    await two.run("insert into identity (kind, value, contact_id) values ('phone', '+4917010000', :id)", id=row[0])
    source = "---\ntemplate: text\nchannel: sms\npurpose: transactional\n---\n{{ event.words }}\n"
    async with two.database.begin() as connection:
        await templates.publish(connection, source, "text.txt")
    words = ("route", "try", "--contact", str(row[0]), "--template", "text")
    said = ("--event", json.dumps({"words": "x" * 161}))
    [one] = (await done(*words, *said))["contacts"]
    assert (one["parts"], one["price"], one["cost"], one["priced"]) == (2, "0.100000", "0.200000", "whole")
    assert "│ 2     │ 0.2 EUR │" in (await kaskad(*words, *said)).output
    [one] = (await done(*words))["contacts"]
    assert (one["parts"], one["cost"], one["priced"]) == (None, "0.100000", "per part")
    assert "│ –     │ 0.1 EUR per part │" in (await kaskad(*words)).output


async def test_a_dry_run_takes_a_journeys_step_with_its_limits(two: World) -> None:
    [item] = await two.enroll(1)
    [row] = await two.run("select contact_id from enrollment")
    async with two.database.begin() as connection:
        await templates.publish(connection, "---\ntemplate: plain\nsubject: Hi\n---\n<p>Hi</p>\n", "plain.html")
        await journeys.publish(
            connection,
            "journey: capped\nenter: {event: x}\nlimits: {messages: 1, within: 1d}\nsteps:\n"
            "  - {id: first, send: email, template: plain}\n  - {id: second, send: email, template: plain}\n",
        )
    words = ("route", "try", "--contact", str(row.contact_id), "--journey", "capped")
    assert "first, second" in await refused(*words)
    [one] = (await done(*words, "--step", "first"))["contacts"]
    assert one["provider"] == "main"
    await two.prepare([item], now())
    [one] = (await done(*words, "--step", "first"))["contacts"]
    assert one["reason"] == "frequency_cap: 1 in 1 day, 0:00:00"
    [one] = (await done("route", "try", "--contact", str(row.contact_id), "--template", "letter"))["contacts"]
    assert one["provider"] == "main"


async def test_options_are_set_and_taken_back(two: World) -> None:
    assert (await done("provider", "set", "main", "per_second=50", "warm_up=10"))["settings"].startswith(
        "per_second=50.0, warm_up=10, warm_up_from="
    )
    await done("provider", "set", "main", "per_second=")
    assert "per_second" not in (await done("provider", "list"))[0]["settings"]
    assert "per_second cannot be 'fast'" in await refused("provider", "set", "main", "per_second=fast")


async def test_features_are_shown(two: World) -> None:
    rows = await done("provider", "features")
    assert {"smtp://", "mailbox://"} <= {row["url"] for row in rows}

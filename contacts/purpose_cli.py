"""`kaskad purpose`: what the preference page offers."""

from typing import Annotated, Any

import typer
from rich.markup import escape

from contacts import preferences
from contacts.preferences import Purpose
from core import cli
from core.errors import InvalidInput, Problem

app = typer.Typer(no_args_is_help=True)
purpose_app = typer.Typer(help="What contacts can choose on their preference page.", no_args_is_help=True)
app.add_typer(purpose_app, name="purpose")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@purpose_app.command("list")
def list_purposes(json: Json = False) -> None:
    """Show what is offered, from the top of the page. As long as nothing is set up, that is marketing."""

    async def work() -> list[dict[str, Any]]:
        async with cli.connected() as database, database.begin() as connection:
            return [_shown(one, json) for one in await preferences.purposes(connection)]

    cli.output(cli.run(work()), json=json)


@purpose_app.command("set")
def set_purpose(
    name: Annotated[str, typer.Argument(help="As in `purpose:` of a send step, such as newsletter.")],
    channel: Annotated[list[str], typer.Option(help="On which it is offered; may be repeated.")],
    title: Annotated[list[str], typer.Option(help="language=words, such as en=News; may be repeated.")],
    text: Annotated[list[str] | None, typer.Option(help="language=a sentence or two.")] = None,
    place: Annotated[int, typer.Option(min=0, max=1000, help="From the top of the page.")] = 0,
) -> None:
    """Offer a purpose, or offer it in other words."""

    async def work() -> None:
        made = Purpose(name, tuple(channel), _words(title), _words(text or []), place)
        async with cli.connected() as database, database.begin() as connection:
            await preferences.offer(connection, made)

    cli.run(work())
    cli.console.print(f"{escape(name)} is offered.")


@purpose_app.command("remove")
def remove_purpose(name: Annotated[str, typer.Argument(help="Which.")]) -> None:
    """Offer a purpose no longer. What contacts said about it stays."""

    async def work() -> None:
        async with cli.connected() as database, database.begin() as connection:
            await preferences.withdraw_offer(connection, name)

    cli.run(work())
    cli.console.print(f"{escape(name)} is not offered any more.")


def _words(given: list[str]) -> dict[str, str]:
    pairs = dict(one.partition("=")[::2] for one in given)
    if not all(language and words for language, words in pairs.items()):
        raise InvalidInput(
            Problem("words come with their language", "write it like --title en=News --title ru=Новости")
        )
    return pairs


def _shown(one: Purpose, json: bool) -> dict[str, Any]:
    titles, texts = dict(one.titles), dict(one.texts)
    return {
        "name": one.name, "channels": list(one.channels), "place": one.place,
        "titles": titles if json else "; ".join(f"{language}: {words}" for language, words in titles.items()),
        "texts": texts if json else "; ".join(f"{language}: {words}" for language, words in texts.items()) or None,
    }  # fmt: skip

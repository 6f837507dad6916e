"""Commands about one contact's way through a journey."""

import getpass
from typing import Annotated, Any

import typer

from core.cli import connected, output, run
from engine import moves

app = typer.Typer(no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Number = Annotated[int, typer.Argument(help="The enrollment's number; `kaskad journey history CONTACT` shows it.")]


@app.command()
def move(
    enrollment: _Number,
    to: Annotated[str, typer.Option(help="The id of a step of its version.")],
    json: _Json = False,
) -> None:
    """Let a contact go on at another step. What is being sent to it goes out."""
    output(run(_order(enrollment, step=to)), json=json)


@app.command()
def end(
    enrollment: _Number,
    outcome: Annotated[str, typer.Option(help="How it ended, for reports.")] = "taken out",
    json: _Json = False,
) -> None:
    """Take a contact out of its journey."""
    output(run(_order(enrollment, outcome=outcome)), json=json)


async def _order(enrollment: int, *, step: str | None = None, outcome: str = "") -> dict[str, Any]:
    async with connected() as database, database.begin() as connection:
        number = await moves.order(connection, enrollment, step=step, outcome=outcome, by=_user())
    return {"enrollment": enrollment, "order": number} | ({"to": step} if step else {"outcome": outcome})


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return None

"""Commands about email: `kaskad email …`."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from channels.email import dkim
from core import cli
from core.errors import Conflict, InvalidInput

app = typer.Typer(help="Email: DKIM keys.", no_args_is_help=True)


@app.callback()
def email() -> None:
    """Email: DKIM keys."""


@app.command("dkim-key")
def dkim_key(
    domain: Annotated[str, typer.Option(help="The domain that letters are signed for, as in their From.")],
    selector: Annotated[str, typer.Option(help="The key's name in the DNS; a new one for each new key.")],
    algorithm: Annotated[str, typer.Option(help="rsa (2048 bits; needed today) or ed25519 (beside it).")] = "rsa",
    out: Annotated[Path | None, typer.Option(help="Where to write the key; by default in the data folder.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Make a DKIM key, keep it readable by its owner only, and print the DNS record and the provider's options."""
    with cli.plain_errors():
        config = _checked(domain, selector, algorithm)
        folder = cli.load_settings().data
        relative = Path("dkim") / f"{config.domain}.{selector}.pem"
        private = dkim.generate(algorithm)
        path = out or folder / relative
        _write(path, dkim.to_pem(private))
        row = {
            "file": str(path.absolute()),
            "name": f"{selector}._domainkey.{config.domain}",
            "type": "TXT",
            "value": dkim.dns_record(private),
            "zone_line": dkim.zone_line(config.domain, selector, private),
            "url_options": f"dkim_domain={config.domain}&dkim_key={selector}:{path.absolute() if out else relative}",
        }
        if json:
            cli.output(row, json=True)
            return
        _explain(row)


def _checked(domain: str, selector: str, algorithm: str) -> dkim.DkimSettings:
    if algorithm not in ("rsa", "ed25519"):
        raise InvalidInput(f"--algorithm is rsa or ed25519, not {algorithm!r}")
    return dkim.DkimSettings.checked(domain, [{"selector": selector}])


def _write(path: Path, pem: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise Conflict(f"{path} exists; a new key gets a new selector, so that letters under way stay valid") from None
    with os.fdopen(handle, "wb") as file:
        file.write(pem)


def _explain(row: dict[str, str]) -> None:
    def show(words: str) -> None:
        cli.console.print(escape(words), soft_wrap=True, highlight=False)

    show(f"The private key is in {row['file']}; nobody else needs it.\n")
    show("1. Publish its public half in the DNS. As name, type and value:\n")
    show(f"   {row['name']}\n   {row['type']}\n   {row['value']}\n")
    show(f"   or as a line of a zone file:\n\n   {row['zone_line']}\n")
    show(f"2. Add to the query of the provider's URL:\n\n   {row['url_options']}")

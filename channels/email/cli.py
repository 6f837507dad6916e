"""Commands about email: `kaskad email …`."""

import asyncio
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import idna
import typer
from rich.markup import escape

from channels import compilation
from channels.email import checking, dkim, domains
from core import cli, files
from core.errors import Conflict, InvalidInput, Unavailable

_LETTER_LIMIT = 30_000_000

app = typer.Typer(help="Email: checks of domains and letters, DKIM keys.", no_args_is_help=True)


@app.callback()
def email() -> None:
    """Email: checks of domains and letters, DKIM keys."""


@app.command("check")
def check(
    what: Annotated[str, typer.Argument(help="A domain, a letter (.eml), or a template's file.")],
    selector: Annotated[list[str] | None, typer.Option(help="Of a DKIM key; may be repeated.")] = None,
    resolver: Annotated[str | None, typer.Option(help="HOST:PORT of a DNS server; the system's if not given.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Say what keeps letters out of inboxes: SPF, DKIM, DMARC and MX of a domain; signatures, headers, size, links
    and images of a letter. Exits with 1 if something has to be mended."""
    with cli.plain_errors():
        found = _findings(what, selector or [], resolver)
    if json:
        cli.output([asdict(one) for one in found], json=True)
    else:
        for one in found:
            mark = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "problem": "[red]✗[/]"}[one.level]
            mend = f" [dim]({escape(one.mend)})[/]" if one.mend else ""
            cli.console.print(f"{mark} [bold]{escape(one.about)}[/]: {escape(one.message)}{mend}", soft_wrap=True)
    if any(one.level == "problem" for one in found):
        raise typer.Exit(1)


def _findings(what: str, selectors: list[str], resolver: str | None) -> list[checking.Finding]:
    host, _, port = (resolver or "").rpartition(":")
    if resolver and not (host and port.isdecimal()):
        raise InvalidInput("--resolver is HOST:PORT")
    server = (host, int(port)) if resolver else None
    file = Path(what)
    if file.is_file():
        source = file.read_bytes()
        if len(source) > _LETTER_LIMIT:
            raise InvalidInput(f"{what} has more than {_LETTER_LIMIT // 1_000_000} MB")
        if file.suffix == ".eml":
            return [*checking.of_letter(source), *_signatures(source, server)]
        parsed = compilation.parse(source, file.name)
        compiled = compilation.compile_source(parsed, compilation.check(parsed))
        return checking.of_template(compiled.html, compiled.text)
    if "/" in what or not re.fullmatch(r"[\w-]+(\.[\w-]+)+", what):
        raise InvalidInput(f"there is no file {what}, and it is no domain")
    domain = what.lower() if what.isascii() else idna.encode(what, uts46=True).decode()
    return domains.of_records(domain, asyncio.run(domains.lookup(domain, selectors, server)))


def _signatures(source: bytes, server: tuple[str, int] | None) -> list[checking.Finding]:
    try:
        return checking.of_signatures(source, asyncio.run(domains.keys(source, server)))
    except Unavailable as error:
        return [checking.Finding("DKIM", "warning", f"signatures were not verified: {error}", "try again online")]


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
    if files.kept(path, lambda: pem, at_least=0) != pem:
        raise Conflict(f"{path} exists; a new key gets a new selector, so that letters under way stay valid")


def _explain(row: dict[str, str]) -> None:
    def show(words: str) -> None:
        cli.console.print(escape(words), soft_wrap=True, highlight=False)

    show(f"The private key is in {row['file']}; nobody else needs it.\n")
    show("1. Publish its public half in the DNS. As name, type and value:\n")
    show(f"   {row['name']}\n   {row['type']}\n   {row['value']}\n")
    show(f"   or as a line of a zone file:\n\n   {row['zone_line']}\n")
    show(f"2. Add to the query of the provider's URL:\n\n   {row['url_options']}")

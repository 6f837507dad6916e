"""`kaskad site`: sites whose visitors are tracked."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from core.cli import complaints, connected, console, load_settings, output, run
from core.errors import InvalidInput
from tracker import script, sites
from tracker.sites import ENDPOINT_PATH, SCRIPT_PATH, Site, Wanted

app = typer.Typer(help="Sites whose visitors are tracked.", no_args_is_help=True)

_DAYS = 7
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Name = Annotated[str, typer.Argument(help="The site's name.")]
_Url = Annotated[str | None, typer.Option(help="The address at which pages reach Kaskad; KASKAD_BASE_URL if left out.")]
_Script = Annotated[
    str | None, typer.Option(help="The path of the script, for first-party names; as in /assets/app.js.")
]
_Endpoint = Annotated[str | None, typer.Option(help="The path that hits are sent to.")]
_Address = Annotated[
    str | None, typer.Option(help="What is kept of IP addresses: drop, truncate (/24, /48 of IPv6) or keep.")
]
_Internal = Annotated[
    list[str] | None, typer.Option(help="A network whose traffic does not count, as in 192.0.2.0/24; may be repeated.")
]
_Identify = Annotated[
    str | None,
    typer.Option(
        help="Whose word on who a visitor is counts: signed (by your server; the default) or open (any page's)."
    ),
]


@app.command()
def add(
    name: _Name,
    origin: Annotated[
        list[str],
        typer.Option(help="Where its pages are: https://example.com, https://*.example.com; may be repeated."),
    ],
    script_path: _Script = None,
    endpoint_path: _Endpoint = None,
    address: _Address = None,
    internal: _Internal = None,
    identify: _Identify = None,
    url: _Url = None,
    json: _Json = False,
) -> None:
    """Make a site and print the tag that its pages are to carry."""
    wanted = Wanted(
        name,
        origin,
        script_path or SCRIPT_PATH,
        endpoint_path or ENDPOINT_PATH,
        address or "drop",
        internal or (),
        identify or "signed",
    )
    _print_tag(run(_add(wanted)), url, json)


async def _add(wanted: Wanted) -> Site:
    async with connected() as database, database.begin() as connection:
        return await sites.add(connection, wanted)


@app.command("set")
def set_(
    name: _Name,
    origin: Annotated[list[str] | None, typer.Option(help="All its origins; those not named are gone.")] = None,
    script_path: _Script = None,
    endpoint_path: _Endpoint = None,
    address: _Address = None,
    internal: _Internal = None,
    no_internal: Annotated[bool, typer.Option("--no-internal", help="No network is internal any more.")] = False,
    identify: _Identify = None,
    json: _Json = False,
) -> None:
    """Change a site. What is left out stays as it is; its pages need the new tag only if a path changes."""
    if no_internal and internal:
        run(_refuse("--internal and --no-internal contradict each other"))
    given = {
        "origins": origin,
        "script_path": script_path,
        "endpoint_path": endpoint_path,
        "address": address,
        "internal": [] if no_internal else internal,
        "identify": identify,
    }
    site = run(_set(name, {key: value for key, value in given.items() if value is not None}))
    output(_row(site), json=json)


async def _refuse(message: str) -> None:
    raise InvalidInput(message)


async def _set(name: str, given: dict[str, Any]) -> Site:
    async with connected() as database, database.begin() as connection:
        old = await sites.get(connection, name)
        fields = ("origins", "script_path", "endpoint_path", "address", "internal", "identify")
        known = {field: getattr(old, field) for field in fields}
        return await sites.change(connection, Wanted(name, **(known | given)))


@app.command("list")
def list_(json: _Json = False) -> None:
    """List the sites."""
    output([_row(site) for site in run(_list())], json=json, empty="No sites yet: kaskad site add NAME --origin …")


async def _list() -> Sequence[Site]:
    async with connected() as database, database.begin() as connection:
        return await sites.listing(connection)


@app.command()
def show(
    name: _Name,
    days: Annotated[int, typer.Option(min=1, max=400, help="Count the hits of so many days.")] = _DAYS,
    url: _Url = None,
    json: _Json = False,
) -> None:
    """Show a site, its tag, and what became of its hits: those of bots, internal ones and others were not stored."""
    site, counts = run(_show(name, days))
    tag = _tag(site, url)
    if json:
        output({**_row(site), "tag": tag, "hits": counts}, json=True)
        return
    output(_row(site), json=False)
    console.print(f"\n{tag}\n", markup=False, highlight=False, soft_wrap=True)
    output(counts, json=False, empty=f"No hits in {days} days.")


async def _show(name: str, days: int) -> tuple[Site, list[dict[str, Any]]]:
    async with connected() as database, database.begin() as connection:
        site = await sites.get(connection, name)
        return site, await sites.counts(connection, site.id, days)


@app.command()
def key(
    name: _Name,
    new: Annotated[bool, typer.Option("--new", help="Make one more; the others go on until they are revoked.")] = False,
    revoke: Annotated[str | None, typer.Option(help="Make this key worthless.")] = None,
    json: _Json = False,
) -> None:
    """Print a site's write keys, the newest first."""
    site = run(_key(name, new, revoke))
    if json:
        output({"site": site.name, "keys": site.keys}, json=True)
        return
    for one in site.keys:
        typer.echo(one)
    if new:
        complaints.print(
            f"[dim]Put the new tag into the pages (kaskad site show {site.name}), then revoke the old key.[/]"
        )


async def _key(name: str, new: bool, revoke: str | None) -> Site:
    async with connected() as database, database.begin() as connection:
        if new:
            await sites.new_key(connection, name)
        if revoke is not None:
            await sites.revoke_key(connection, name, revoke)
        return await sites.get(connection, name)


@app.command()
def secret(
    name: _Name,
    new: Annotated[bool, typer.Option("--new", help="Make another; what was signed with the old one is void.")] = False,
    json: _Json = False,
) -> None:
    """Print what a site's server signs with who a visitor is. Keep it from the pages: it makes anybody anybody."""
    site = run(_secret(name, new))
    if json:
        output({"site": site.name, "secret": site.secret}, json=True)
        return
    typer.echo(site.secret)


async def _secret(name: str, new: bool) -> Site:
    async with connected() as database, database.begin() as connection:
        return await (sites.new_secret if new else sites.get)(connection, name)


@app.command()
def remove(name: _Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Take no more hits for a site. What it has reported stays."""
    if not yes:
        typer.confirm(f"Take no more hits for {name}?", abort=True)
    run(_remove(name))
    console.print(f"{name} is removed; what it has reported stays.")


async def _remove(name: str) -> None:
    async with connected() as database, database.begin() as connection:
        await sites.remove(connection, name)


def _row(site: Site) -> dict[str, Any]:
    return {
        "name": site.name,
        "id": site.id,
        "origins": site.origins,
        "script": site.script_path,
        "endpoint": site.endpoint_path,
        "addresses": site.address,
        "internal": site.internal,
        "identify": site.identify,
        "keys": site.keys,
        "created": site.created_at,
    }


def _print_tag(site: Site, url: str | None, json: bool) -> None:
    tag = _tag(site, url)
    if json:
        output({"site": site.name, "id": site.id, "key": site.key, "tag": tag}, json=True)
        return
    typer.echo(tag)
    complaints.print("[dim]Put it into the head of every page. The key is no secret, and proves nothing.[/]")
    if site.identify == "signed":
        complaints.print(
            f"[dim]To identify visitors, sign who they are on your server with what `kaskad site secret {site.name}` "
            "prints.[/]"
        )


def _tag(site: Site, url: str | None) -> str:
    """The site's tag, with the endpoint only where it is not where the snippet looks for it."""
    base = (url or load_settings().public_url).rstrip("/")
    beside = site.script_path.rpartition("/")[0] + "/e"
    endpoint = None if site.endpoint_path == beside else base + site.endpoint_path
    return script.tag(site.key, base + site.script_path, endpoint=endpoint)

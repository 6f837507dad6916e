"""The API of providers, routes, prices, senders and number ranges: what the commands do, over HTTP.

Whoever may change these decides where messages go, so all of it asks for `admin`. URLs of providers hold passwords:
they are taken in by the command line only, and never given out.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from channels import numbers, providers, senders, tariffs
from core.access import require

router = APIRouter(prefix="/v1", tags=["providers"], dependencies=[Depends(require("admin"))])
_CSV = {"requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}}}
_Many = Annotated[list[str], Field(max_length=1000)]


class ProviderRow(BaseModel):
    """A provider, without its secrets."""

    name: str
    channel: str
    state: str
    url: str = Field(description="Without user, password and settings")
    options: dict[str, str | float]


class RouteBody(BaseModel):
    """What a provider carries; what is left out does not matter."""

    model_config = ConfigDict(extra="forbid")

    provider: str
    tier: int = Field(1, description="1 before 2")
    weight: float = Field(1.0, description="Odds among providers of a tier at the same price")
    prefixes: _Many = Field([], description="How addresses begin")
    countries: _Many = Field([], description="ISO 3166")
    operators: _Many = Field([], description="Of email the domain")
    purposes: _Many = []
    opens: str | None = Field(None, description="HH:MM by the contact's clock")
    closes: str | None = None


class RouteRow(BaseModel):
    """A route."""

    id: int
    provider: str
    channel: str
    tier: int
    weight: float
    prefixes: list[str]
    countries: list[str]
    operators: list[str]
    purposes: list[str]
    hours: str | None


class PriceRow(BaseModel):
    """What a part of a message costs where everything fits; what is empty fits any."""

    provider: str
    prefix: str
    country: str
    operator: str
    amount: Decimal
    currency: str


class SenderBody(BaseModel):
    """A name, number or address that messages may come from."""

    model_config = ConfigDict(extra="forbid")

    channel: str
    address: str = Field(max_length=500)
    purposes: _Many = []
    countries: _Many = []


class SenderRow(BaseModel):
    """A registered sender."""

    channel: str
    address: str
    purposes: list[str]
    countries: list[str]
    created_at: datetime


class OperatorRow(BaseModel):
    """An operator that the table of number ranges names."""

    country: str | None
    operator: str
    ranges: int
    numbers: int


class Count(BaseModel):
    """How many rows there are now."""

    rows: int


class Made(BaseModel):
    """The number of what was made."""

    id: int


@router.get("/providers", summary="List providers", operation_id="list_providers")
async def list_providers(request: Request) -> list[ProviderRow]:
    """The providers and their options."""
    async with request.app.state.database.begin() as connection:
        found = await providers.listing(connection, request.app.state.settings)
    return [
        ProviderRow(name=one.name, channel=one.channel, state=one.state, url=one.shown, options=one.options.stored())
        for one in found
    ]


@router.get("/routes", summary="List routes", operation_id="list_routes")
async def list_routes(request: Request) -> list[RouteRow]:
    """The routes by channel, tier and provider."""
    async with request.app.state.database.begin() as connection:
        return [RouteRow(**row) for row in await tariffs.routes(connection)]


@router.post("/routes", status_code=201, summary="Add a route", operation_id="add_route")
async def add_route(request: Request, body: RouteBody) -> Made:
    """Say what a provider carries."""
    async with request.app.state.database.begin() as connection:
        return Made(id=await tariffs.add_route(connection, tariffs.NewRoute(**body.model_dump())))


@router.delete("/routes/{number}", status_code=204, summary="Remove a route", operation_id="remove_route")
async def remove_route(request: Request, number: int) -> Response:
    """Forget a route."""
    async with request.app.state.database.begin() as connection:
        await tariffs.remove_route(connection, number)
    return Response(status_code=204)


@router.get("/prices", summary="List prices", operation_id="list_prices")
async def list_prices(request: Request, provider: str | None = None) -> list[PriceRow]:
    """All prices, or those of one provider."""
    async with request.app.state.database.begin() as connection:
        return [PriceRow(**row) for row in await tariffs.price_list(connection, provider)]


@router.put("/prices", summary="Import a price list", operation_id="import_prices", openapi_extra=_CSV)
async def import_prices(request: Request) -> Count:
    """Take the CSV in the body over, in the place of what the providers in it had before."""
    prices = tariffs.read_prices(await request.body(), "body")
    async with request.app.state.database.begin() as connection:
        return Count(rows=await tariffs.import_prices(connection, prices, "body"))


@router.get("/senders", summary="List senders", operation_id="list_senders")
async def list_senders(request: Request) -> list[SenderRow]:
    """The registered senders."""
    async with request.app.state.database.begin() as connection:
        return [SenderRow(**row) for row in await senders.senders(connection)]


@router.post("/senders", status_code=201, summary="Register a sender", operation_id="add_sender")
async def add_sender(request: Request, body: SenderBody) -> Response:
    """Register a sender. Once a channel has one, templates may name registered ones only."""
    async with request.app.state.database.begin() as connection:
        await senders.add_sender(connection, body.channel, body.address, body.purposes, body.countries)
    return Response(status_code=201)


@router.delete("/senders", status_code=204, summary="Strike a sender off", operation_id="remove_sender")
async def remove_sender(request: Request, channel: str, address: Annotated[str, Query(max_length=500)]) -> Response:
    """Strike a sender off; templates that were published with it go on."""
    async with request.app.state.database.begin() as connection:
        await senders.remove_sender(connection, channel, address)
    return Response(status_code=204)


@router.get("/operators", summary="List operators", operation_id="list_operators")
async def list_operators(request: Request) -> list[OperatorRow]:
    """The operators that the table of number ranges names."""
    async with request.app.state.database.begin() as connection:
        return [OperatorRow(**row) for row in await numbers.summary(connection)]


@router.put("/operators", summary="Import number ranges", operation_id="import_operators", openapi_extra=_CSV)
async def import_operators(request: Request) -> Count:
    """Take the CSV in the body over, in the place of the table before."""
    ranges = numbers.read_ranges(await request.body(), "body")
    async with request.app.state.database.begin() as connection:
        return Count(rows=await numbers.replace_ranges(connection, ranges))

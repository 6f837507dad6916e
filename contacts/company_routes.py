"""The API of companies: write them, list them, remove them."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from contacts import companies, wire
from core.access import require

router = APIRouter(tags=["contacts"])


class CompanyIn(BaseModel):
    """What is said about a company. What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(min_length=1, max_length=200, description="What it is known by", examples=["acme.com"])
    name: str | None = Field(None, min_length=1, max_length=200, examples=["Acme Ltd"])
    attributes: dict[str, wire.Scalar] = Field({}, description="Name to value; null removes it", max_length=200)


class CompanyResult(BaseModel):
    """The company that was written."""

    id: int
    key: str


class CompanyOut(BaseModel):
    """A company as it stands in a list."""

    key: str
    name: str
    attributes: dict[str, Any]
    contacts: int
    created_at: datetime
    changed_at: datetime


class CompanyPage(BaseModel):
    """Companies in the order of their keys."""

    companies: list[CompanyOut]
    after: str | None = Field(description="Ask with this `after` for the next page; null at the end")


@router.post(
    "/v1/companies",
    dependencies=[Depends(require("contacts:write"))],
    summary="Create or update a company",
    operation_id="write_company",
)
async def write_company(request: Request, company: CompanyIn) -> CompanyResult:
    """Find the company by its key, make it if it is new, and write what is said about it."""
    said = companies.Company(company.key, company.name, company.attributes)
    async with request.app.state.database.begin() as connection:
        return CompanyResult(id=await companies.upsert(connection, said), key=companies.check_key(company.key))


@router.get(
    "/v1/companies",
    dependencies=[Depends(require("contacts:read"))],
    summary="List companies",
    operation_id="list_companies",
)
async def list_companies(
    request: Request,
    after: Annotated[str, Query(max_length=200, description="`after` of the page before")] = "",
    limit: wire.Limit = 100,
) -> CompanyPage:
    """A page of companies in the order of their keys."""
    async with request.app.state.database.begin() as connection:
        rows = await companies.listing(connection, after.replace("\0", ""), limit)
    found = [CompanyOut(**row) for row in rows]
    return CompanyPage(companies=found, after=found[-1].key if len(found) == limit else None)


@router.delete(
    "/v1/companies/{key:path}",
    status_code=204,
    dependencies=[Depends(require("contacts:write"))],
    summary="Remove a company",
    operation_id="remove_company",
)
async def remove_company(request: Request, key: str) -> None:
    """Remove a company; its contacts stay, without one."""
    async with request.app.state.database.begin() as connection:
        await companies.remove(connection, companies.check_key(key))

"""Companies: written by key, assigned over the API and by import, and told with their contacts."""

from pathlib import Path

import pytest

from contacts import companies, importing, profiles
from core.database import Database
from core.errors import InvalidInput, NotFound
from core.settings import Settings


async def test_a_company_is_made_and_changed(database: Database) -> None:
    async with database.begin() as connection:
        first = await companies.upsert(connection, companies.Company(" Acme.com ", "Acme", {"employees": 250, "x": 1}))
        again = await companies.upsert(connection, companies.Company("acme.com", None, {"x": None, "vip": True}))
        (row,) = await companies.listing(connection, "", 10)
    assert first == again
    assert (row["key"], row["name"], row["attributes"]) == ("acme.com", "Acme", {"employees": 250, "vip": True})


@pytest.mark.parametrize(
    ("company", "message"),
    [
        (companies.Company(" "), "cannot be the key of a company"),
        (companies.Company("a\0b"), "cannot be the key of a company"),
        (companies.Company("a", ""), "cannot be the name of a company"),
        (companies.Company("a", None, {"b c": 1}), "cannot be an attribute's name"),
        (companies.Company("a", None, {"b": {}}), "no attribute can hold this value"),
        (companies.Company("a", None, {f"a{n}": n for n in range(201)}), "too many attributes"),
    ],
)
async def test_what_cannot_be_is_refused(database: Database, company: companies.Company, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        async with database.begin() as connection:
            await companies.upsert(connection, company)


async def test_contacts_come_into_companies_and_out_of_them(database: Database) -> None:
    def anna(company: str | None) -> profiles.Item:
        return profiles.Item({"email": "anna@example.com"}, company=company)

    async with database.begin() as connection:
        (done,) = await profiles.upsert(connection, [anna("Acme Ltd")])
        assert done.contact_id is not None
        assert (await profiles.get(connection, done.contact_id)).company == "acme ltd"
        await profiles.upsert(connection, [anna(None)])
        (row,) = await companies.listing(connection, "", 10)
        assert (row["name"], row["contacts"]) == ("Acme Ltd", 1)
        assert (await profiles.page(connection))[0]["company"] == "acme ltd"
        await profiles.upsert(connection, [anna("")])
        assert (await profiles.get(connection, done.contact_id)).company is None
        await companies.assign(connection, {done.contact_id: "ACME LTD", 99: "acme ltd"})
        await companies.remove(connection, "acme ltd")
        assert (await profiles.get(connection, done.contact_id)).company is None
        with pytest.raises(NotFound):
            await companies.remove(connection, "acme ltd")
        (refused,) = await profiles.upsert(connection, [anna("x" * 201)])
    assert [problem.path for problem in refused.problems] == ["company"]


async def test_a_column_of_an_import_is_the_company(database: Database, tmp_path: Path, settings: Settings) -> None:
    file = tmp_path / "people.csv"
    file.write_text("email,company\na@x.example,Acme Ltd\nb@x.example,\nc@x.example,ACME ltd\na@x.example,Other\n")
    report = await importing.import_file(database, file, settings=settings)
    async with database.begin() as connection:
        people = await profiles.page(connection)
    assert report.columns[1] == {"column": "company", "means": "company", "type": ""}
    assert sorted((one["identities"][0]["value"], one["company"]) for one in people) == [
        ("a@x.example", "other"),
        ("b@x.example", None),
        ("c@x.example", "acme ltd"),
    ]

"""What columns mean and how cells are read: pure decisions, in tables."""

from typing import Any

import pytest

from contacts.columns import Options, boolean, infer, number, plan, reader
from core.errors import InvalidInput


def meant(
    header: list[str], *sample: list[str], existing: dict[str, str] | None = None, **options: Any
) -> dict[str, str]:
    columns = plan(header, sample, Options(**options), existing or {})
    return {c.header: f"{c.target or c.role}:{c.type}".rstrip(":") for c in columns}


def test_columns_are_known_by_their_names() -> None:
    header = [
        "E-mail",
        "Телефон",
        "Имя",
        "ФАМИЛИЯ",
        "Дата рождения",
        "Часовой пояс",
        "Теги",
        "Любимый цвет",
        "",
        "2 этаж",
    ]
    sample = ["a@x.com", "8916", "Анна", "И", "01.02.1995", "Europe/Moscow", "a;b", "red", "x", "1"]
    assert meant(header, sample) == {
        "E-mail": "email",
        "Телефон": "phone",
        "Имя": "first_name:text",
        "ФАМИЛИЯ": "last_name:text",
        "Дата рождения": "birthday:date",
        "Часовой пояс": "time_zone",
        "Теги": "tags",
        "Любимый цвет": "любимый_цвет:text",
        "": "ignore",
        "2 этаж": "column_2_этаж:number",
    }


def test_options_and_what_exists_come_before_names_and_guesses() -> None:
    found = plan(
        ["Mail", "code", "age", "agreed", "how"],
        [["a@x.com", "17", "31", "yes", "form"]],
        Options(
            mapping={"mail": "external_id"},
            types={"Code": "text"},
            consent_column="agreed",
            consents=(("email", "marketing"),),
            evidence_column="how",
        ),
        {"age": "text"},
    )
    assert [(c.role, c.target, c.type) for c in found] == [
        ("identity", "external_id", ""),
        ("attribute", "code", "text"),
        ("attribute", "age", "text"),
        ("consent", "", ""),
        ("evidence", "", ""),
    ]


@pytest.mark.parametrize(
    ("header", "options", "words"),
    [
        (["city"], {}, "no column identifies"),
        (["email"], {"mapping": {"mail": "email"}}, "no column 'mail'"),
        (["email", "mail"], {}, "both mean email"),
        (["email", "created_at"], {}, "already means something"),
        (["email"], {"identity": "phone"}, "no column holds the identity"),
        (["email", "age"], {"types": {"age": "integer"}}, "no type 'integer'"),
        (["email", "ok"], {"consent_column": "ok"}, "go together"),
        (["email", "ok"], {"consent_column": "ok", "consents": (("fax", "marketing"),)}, "no channel 'fax'"),
    ],
)
def test_what_makes_no_sense_is_said(header: list[str], options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        meant(header, **options)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2,5", "1 000"], "number"),
        (["007", "12"], "text"),
        (["+79161234567"], "text"),
        (["1234567890123456"], "text"),
        (["да", "нет"], "boolean"),
        (["1", "0"], "number"),
        (["2026-01-02", "03.04.2026"], "date"),
        (["2026-01-02T10:00:00", "03.04.2026 11:30"], "datetime"),
        (["2026-01-02", "soon"], "text"),
        ([], "text"),
    ],
)
def test_inferred_types(cells: list[str], kind: str) -> None:
    assert infer(cells) == kind


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("31", 31),
        ("-0.5", -0.5),
        ("12,5", 12.5),
        ("1 234,56", 1234.56),
        ("1\u00a0234", 1234),
        ("1,234.56", 1234.56),
        ("1,234,567", 1234567),
        ("1e3", 1000.0),
        ("abc", None),
        ("1.2.3", None),
        ("nan", None),
        ("1e999", None),
        ("=1+1", None),
    ],
)
def test_numbers(cell: str, value: float | None) -> None:
    if value is None:
        with pytest.raises(InvalidInput):
            number(cell)
    else:
        assert number(cell) == value


def test_yes_and_no() -> None:
    assert boolean("Да") is True
    assert boolean("0") is False
    with pytest.raises(InvalidInput):
        boolean("maybe")


def test_cells_are_read_into_json() -> None:
    columns = plan(["email", "born", "list"], [], Options(types={"born": "date", "list": "list"}), {})
    read = [reader(column, "RU") for column in columns]
    assert read[1]("31.12.1999") == '"born":"1999-12-31"'
    assert read[2]('a; "b"') == '"list":["a","\\"b\\""]'
    for wrong in ("31.02.1999", "1999", "1999-12-31T10:00:00"):
        with pytest.raises(InvalidInput):
            read[1](wrong)

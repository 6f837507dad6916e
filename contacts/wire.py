"""What the API of contacts takes and gives, as models that are also its documentation."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, WithJsonSchema

from contacts import profiles

Scalar = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "number"},
                {"type": "boolean"},
                {"type": "array", "items": {"type": "string"}, "maxItems": 1000},
                {"type": "null"},
            ]
        }
    ),
]
_EXAMPLE: dict[str, Any] = {
    "identities": {"email": "anna@example.com", "external_id": "crm-17"},
    "attributes": {"first_name": "Анна", "age": 31, "birthday": "1995-02-01"},
    "language": "ru",
    "time_zone": "Europe/Moscow",
    "add_tags": ["export"],
    "consents": [{"channel": "email", "purpose": "marketing", "granted": True, "evidence": {"form": "/subscribe"}}],
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ConsentIn(_Strict):
    """A consent given or refused."""

    channel: str = Field(description="email, sms, voice, webpush, site or webhook", examples=["email"])
    purpose: str = Field(description="marketing, transactional or a word of your own", examples=["marketing"])
    granted: bool
    at: AwareDatetime | None = Field(None, description="When it was said; now if left out. What was said last holds")
    evidence: dict[str, Any] = Field({}, description="What proves it: the form, the text, the IP address …")
    confirm: bool = Field(False, description="Double opt-in: a letter asks the contact; nothing is granted before")


class ContactIn(_Strict):
    """What is said about one contact. What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    identities: dict[Literal["anonymous_id", "external_id", "email", "phone", "push_endpoint"], str] = Field(
        min_length=1, description="What the contact is known by. Those nobody has yet become its own"
    )
    attributes: dict[str, Scalar] = Field(
        {}, description="Name to value; null removes it. A new name takes the type of its first value"
    )
    language: str | None = Field(None, description="BCP 47", examples=["pt-BR"])
    time_zone: str | None = Field(None, description="IANA name", examples=["Europe/Moscow"])
    add_tags: list[str] = []
    remove_tags: list[str] = []
    consents: list[ConsentIn] = []
    company: str | None = Field(
        None,
        max_length=200,
        description="The key of its company, made if it is new; empty takes it out",
        examples=["acme.com"],
    )

    def item(self) -> profiles.Item:
        """The same, as `profiles.upsert` takes it."""
        return profiles.Item(
            identities={str(kind): value for kind, value in self.identities.items()},
            attributes=self.attributes,
            language=self.language,
            time_zone=self.time_zone,
            add_tags=self.add_tags,
            remove_tags=self.remove_tags,
            consents=[profiles.ConsentItem(**dict(consent)) for consent in self.consents],
            company=self.company,
        )


class ItemProblem(BaseModel):
    """One thing that is wrong with a contact."""

    path: str = Field(description="Where", examples=["contacts[3].attributes.age"])
    message: str = Field(description="What is wrong", examples=["expected a number"])
    mend: str = Field(description="What to do about it", examples=["write it without quotes, like 12.5"])


class IdentityRef(BaseModel):
    """An identity."""

    kind: str
    value: str


class ContactResult(BaseModel):
    """What became of one contact."""

    status: Literal["created", "updated", "refused"] = Field(description="`refused`: nothing of it was written")
    id: int | None = Field(None, description="The contact's number, unless it was refused")
    errors: list[ItemProblem] = Field([], description="Why it was refused")
    conflicts: list[IdentityRef] = Field(
        [], description="Identities that belong to a contact with another external id, and stay its own"
    )


class ContactResults(BaseModel):
    """What became of the contacts of one request, in the order they were sent."""

    created: int
    updated: int
    refused: int
    contacts: list[ContactResult]


class IdentityOut(BaseModel):
    """One thing that a contact is known by."""

    kind: str
    value: str
    created_at: datetime


class ConsentOut(BaseModel):
    """What holds for a channel and a purpose."""

    channel: str
    purpose: str
    granted: bool
    changed_at: datetime


class RequestOut(BaseModel):
    """A consent that waits for the contact's confirmation."""

    channel: str
    purpose: str
    asked_at: datetime
    expires_at: datetime


class ContactOut(BaseModel):
    """A contact as it stands in a list."""

    id: int
    created_at: datetime
    updated_at: datetime
    language: str | None
    time_zone: str | None
    tags: list[str]
    attributes: dict[str, Any]
    identities: list[IdentityOut]
    company: str | None = Field(None, description="The key of its company")


class ContactPage(BaseModel):
    """Contacts in the order of their numbers."""

    contacts: list[ContactOut]
    after: int | None = Field(description="Ask with this `after` for the next page; null at the end")


class EnrollmentOut(BaseModel):
    """One run through a journey."""

    id: int
    journey: str
    version: int
    key: str
    state: str
    step: int | None = Field(description="The place in the plan where it stands or ended")
    entered_at: datetime
    due_at: datetime | None = Field(description="When its present wait ends")
    finished_at: datetime | None
    outcome: str | None


class MomentOut(BaseModel):
    """An event that happened, or a message that was sent or skipped."""

    at: datetime
    type: Literal["event", "message"]
    id: str
    name: str = Field(description="The event's name, or the template's")
    details: dict[str, Any] = Field(description="Of an event its properties; of a message its channel, state, reason …")


class ContactDetail(ContactOut):
    """All there is to know about one contact."""

    consents: list[ConsentOut]
    pending: list[RequestOut] = Field(description="Consents that wait for the contact's confirmation")
    enrollments: list[EnrollmentOut] = Field(description="Newest first, a hundred at most")
    timeline: list[MomentOut] = Field(description="Newest first")
    older: str | None = Field(description="Ask with this `before` for older moments; null at the end")


class RejectOut(BaseModel):
    """A row of a file that was left out."""

    line: int
    column: str
    reason: str
    cells: list[str]


class RejectPage(BaseModel):
    """Rows that an import left out."""

    rejects: list[RejectOut]
    after: int | None = Field(description="Ask with this `after` for the next page; null at the end")


class ColumnOut(BaseModel):
    """What a column was taken for."""

    column: str
    means: str
    type: str


class ImportResult(BaseModel):
    """What an import did."""

    file: str
    state: Literal["finished", "already", "checked"] = Field(
        description="`already`: this very file was imported before; `checked`: a dry run, nothing was written"
    )
    rows: int
    accepted: int
    created: int
    updated: int
    duplicates: int = Field(description="Rows whose first identity had come up in the file before; the last one wins")
    rejected: int
    seconds: float
    id: int | None = Field(description="The import's number, by which its rejects can be asked for; a dry run has none")
    columns: list[ColumnOut]
    rejects: list[RejectOut] = Field(
        description="The first thousand rows that were left out, those of earlier attempts among them"
    )


Limit = Annotated[int, Field(ge=1, le=500)]


def inlined(model: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON Schema without references, for bodies that are checked item by item."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return walk(definitions[node["$ref"].rpartition("/")[2]])
            return {key: walk(value) for key, value in node.items()}
        return [walk(value) for value in node] if isinstance(node, list) else node

    return dict(walk(schema))

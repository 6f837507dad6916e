"""How what we hand to Temporal becomes JSON, and back: by msgspec, which reads a thousand tokens five times as fast as
pydantic does. Plain JSON all the same, so other tools can read it."""

from typing import Any

import msgspec
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    EncodingPayloadConverter,
    JSONPlainPayloadConverter,
)


class _Msgspec(EncodingPayloadConverter):
    """JSON of dataclasses and plain values."""

    @property
    def encoding(self) -> str:
        """The standard name of plain JSON, which Temporal's own tools show."""
        return "json/plain"

    def to_payload(self, value: Any) -> Payload | None:
        """A payload with the value's JSON."""
        return Payload(metadata={"encoding": b"json/plain"}, data=msgspec.json.encode(value))

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """The value; of the given type, if there is one."""
        return msgspec.json.decode(payload.data, type=Any if type_hint is None else type_hint)


class _Payloads(CompositePayloadConverter):
    def __init__(self) -> None:
        converters = DefaultPayloadConverter.default_encoding_payload_converters
        super().__init__(*(one if not isinstance(one, JSONPlainPayloadConverter) else _Msgspec() for one in converters))


data_converter = DataConverter(payload_converter_class=_Payloads)

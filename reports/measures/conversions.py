"""What journeys brought about, and what it was worth."""

from sqlalchemy import Double, cast, func

from core.schema.effects import conversion
from reports.declarations import CONVERSIONS, Measure

CONVERSION = Measure(
    "conversions", "Conversions", "Events that count as a conversion of a journey", "count", CONVERSIONS, func.count()
)
VALUE = Measure(
    slug="conversion-value",
    label="Value of conversions",
    description="The sum of what conversions were worth; those without a value add nothing",
    unit="value",
    source=CONVERSIONS,
    expression=func.coalesce(func.sum(conversion.c.value), cast(0, Double)),
)

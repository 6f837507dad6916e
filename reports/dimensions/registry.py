"""Every dimension. A new one is a file in this folder and a line here."""

from reports.declarations import Dimension
from reports.dimensions import channel, day, journey, provider, purpose, skip_reason, step, template

DIMENSIONS: tuple[Dimension, ...] = (
    journey.JOURNEY,
    step.STEP,
    template.TEMPLATE,
    channel.CHANNEL,
    purpose.PURPOSE,
    provider.PROVIDER,
    day.DAY,
    skip_reason.SKIP_REASON,
)

BY_SLUG: dict[str, Dimension] = {dimension.slug: dimension for dimension in DIMENSIONS}

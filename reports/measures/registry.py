"""Every measure. A new one is a file in this folder and a line here."""

from reports.declarations import AnyMeasure
from reports.measures import conversions, enrollments, fates, responses, sent

MEASURES: tuple[AnyMeasure, ...] = (
    sent.SENT,
    fates.DELIVERED,
    responses.OPENED,
    responses.CLICKED,
    responses.OPEN_RATE,
    responses.CLICK_RATE,
    fates.BOUNCED,
    fates.FAILED,
    fates.SKIPPED,
    enrollments.ENTRIES,
    enrollments.FINISHED,
    enrollments.GOALS,
    conversions.CONVERSION,
    conversions.VALUE,
)

BY_SLUG: dict[str, AnyMeasure] = {measure.slug: measure for measure in MEASURES}

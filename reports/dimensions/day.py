"""The calendar day, in the time zone of the report."""

from sqlalchemy import Date, cast, func

from reports.declarations import Dimension, Key

_DAY = Key("day", lambda source, zone: cast(func.timezone(zone, source.time), Date))

DAY = Dimension(
    "day",
    "Day",
    "The day the message was written, the contact entered, or the conversion happened",
    (_DAY,),
    lambda day: day,
)

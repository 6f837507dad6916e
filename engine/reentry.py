"""Whether the entry rules let a contact into a journey again. Pure; by events and by broadcasts alike."""

from datetime import datetime, timedelta

from journeys.plan import Entry


def allows(entry: Entry, latest: datetime | None, at: datetime, *, running: bool) -> bool:
    """Whether a contact may enter, given its earlier enrollments with the same key.

    Args:
        entry: the rules.
        latest: when it entered last; None if it never did.
        at: when it wants to.
        running: whether one of them has not ended.
    """
    if latest is None:
        return True
    if entry.reenter == "never" or (entry.reenter == "after_exit" and running):
        return False
    # An entry that was written down late may lie after the present one.
    return not entry.cooldown_seconds or at - latest >= timedelta(seconds=entry.cooldown_seconds)

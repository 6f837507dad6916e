"""Sample folders of templates, segments and journeys; publish one with `kaskad push`."""

from pathlib import Path

_HERE = Path(__file__).parent

PORTAL = _HERE / "portal"
"""The export portal of the demo."""
SHOP = _HERE / "shop"
"""A small shop: abandoned cart, win-back, birthday, a sale with two letters."""
OFFICE = _HERE / "office"
"""Notices to employees."""
OUTREACH = _HERE / "outreach"
"""Journeys by telephone, SMS, web push and on the site: valid, simulated, and published once those channels exist."""
FOLDERS = (PORTAL, SHOP, OFFICE, OUTREACH)

"""Sample folders of templates, segments and journeys; publish one with `kaskad push`."""

from pathlib import Path

PORTAL = Path(__file__).parent / "portal"
"""The export portal of the demo."""
SHOP = Path(__file__).parent / "shop"
"""A small shop: abandoned cart, win-back, birthday."""

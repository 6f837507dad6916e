"""Dimensions, a file each; `registry.py` names them all."""

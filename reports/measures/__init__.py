"""Measures, a file each or a small family; `registry.py` names them all."""

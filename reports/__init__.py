"""Reports: measures, dimensions and their constructor. Empty so far; the status pages are in studio."""

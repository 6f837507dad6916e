"""Reports: measures, dimensions and their constructor. Empty so far; the counts on the status pages come from studio."""

"""Providers of email with an API of their own: a file for each, and beside them what they share."""

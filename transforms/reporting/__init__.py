"""Reporting: what the page of an output folder shows, a module for each of its ideas."""

"""The nightly file, and what to know in the morning. It may import runs."""

"""A run: its request, its record, and performing it. It may import runners and transforms."""

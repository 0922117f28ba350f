"""Keeps what is good: validation, repair, deduplication, balance, split, conversion."""

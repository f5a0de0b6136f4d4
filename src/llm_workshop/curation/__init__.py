"""Collecting and cleaning Korean text: rules over single texts, a pipeline over shards, deduplication, a data card."""

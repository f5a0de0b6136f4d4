"""Deduplication: exact, by lines, and near duplicates by MinHash and LSH; contamination by evaluation sets."""

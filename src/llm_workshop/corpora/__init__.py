"""Corpora: the embedded Korean sample and the catalogue of public data sets."""

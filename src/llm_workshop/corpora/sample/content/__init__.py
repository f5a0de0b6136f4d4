"""What the kinds write about: tables of facts and sentences, grouped by subject.

Sentences use the notation of ``kinds/phrases.py``: ``{slot:은/는}`` fills a slot and fits the particle, ``<a|b>`` is
one of several wordings, ``[볶다]`` is a predicate that takes the ending of the document's speech level.
"""

"""Tables of general knowledge that every kind of document draws on: true facts, in clauses that can be conjugated.

A *clause* is a predicate phrase without its subject, in the dictionary form: "동해를 끼고 있다", "국물이 시원하다",
"바다에 사는 동물이다". ``{clause~아요}`` in a template gives the polite form, ``{clause~ㄴ다}`` the plain one. The
subject is always the entry itself: "{name:은/는} {clause~아요}."
"""

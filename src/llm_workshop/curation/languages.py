"""Which language a text is in, without a download: scripts first, then pairs and triples of letters.

Korean, Japanese and Chinese show by their scripts. Latin letters do not tell English from French; which letters follow
each other does (Cavnar & Trenkle 1994). The models are learnt from the few hundred words below, which were written
for this purpose: enough for "English or not", which is all that a Korean corpus asks.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache, lru_cache

from llm_workshop.curation.characters import (
    ACCENTED,
    HAN,
    HANGUL,
    JAMO,
    KANA,
    LATIN,
    RARE_HANGUL,
    counts,
    letters,
)

_TEXTS = {
    "en": (
        "The people of the town had known for years that the bridge would have to be closed one day, but when the notice went "
        "up nobody wanted to believe it. There were those who said that it was too expensive to repair, and others who thought "
        "that we could never do without it. What should we do with the money that is left? I think we ought to ask everyone "
        "before anything is decided. She told him that she would come back in the morning, and he waited for her at the station "
        "until it was dark. If you want to use this program, install it first, then open a file and press the button on the left. "
        "This function returns the number of words in a line; it raises an error when the value is not valid. Each of these "
        "questions has more than one answer, which is why they are so hard to answer well. They have been working here since "
        "last summer, and most of them like their job. Please read the following text and write down your own thoughts about "
        "how children learn from their parents and from each other."
    ),
    "de": (
        "Die Leute in der Stadt wussten schon lange, dass die Brücke eines Tages geschlossen werden muss, aber niemand wollte es "
        "glauben. Wir haben gestern mit den Nachbarn gesprochen und ihnen gesagt, was wir von der Sache halten. Wenn man früh genug "
        "aufsteht, kann man den Zug noch erreichen. Sie hat ihm nicht geantwortet, weil sie keine Zeit hatte. Es ist nicht leicht, eine "
        "neue Sprache zu lernen, doch mit ein wenig Geduld wird es jeden Tag besser gehen. Das Wetter war schön und die Kinder spielten "
        "auf der Straße. Bitte schreiben Sie Ihren Namen auf das Blatt und geben Sie es mir zurück."
    ),
    "fr": (
        "Les gens de la ville savaient depuis longtemps que le pont serait fermé un jour, mais personne ne voulait le croire. Nous "
        "avons parlé hier avec les voisins et nous leur avons dit ce que nous en pensions. Si vous voulez prendre le train, il faut "
        "partir tôt. Elle ne lui a pas répondu parce qu'elle n'avait pas le temps. Ce n'est pas facile d'apprendre une nouvelle langue, "
        "mais avec un peu de patience cela va mieux chaque jour. Il faisait beau et les enfants jouaient dans la rue."
    ),
    "es": (
        "La gente del pueblo sabía desde hace mucho tiempo que el puente se cerraría algún día, pero nadie quería creerlo. Ayer "
        "hablamos con los vecinos y les dijimos lo que pensábamos de todo esto. Si quiere tomar el tren, tiene que salir temprano. Ella "
        "no le contestó porque no tenía tiempo. No es fácil aprender una lengua nueva, pero con un poco de paciencia cada día va mejor. "
        "Hacía buen tiempo y los niños jugaban en la calle con sus amigos."
    ),
    "vi": (
        "Người dân trong thành phố đã biết từ lâu rằng cây cầu sẽ bị đóng cửa, nhưng không ai muốn tin điều đó. Hôm qua chúng tôi đã nói "
        "chuyện với hàng xóm và cho họ biết chúng tôi nghĩ gì. Nếu bạn muốn đi tàu thì phải đi sớm. Học một ngôn ngữ mới không dễ dàng, "
        "nhưng với một chút kiên nhẫn thì mỗi ngày sẽ tốt hơn."
    ),
    "id": (
        "Orang-orang di kota itu sudah lama tahu bahwa jembatan akan ditutup suatu hari nanti, tetapi tidak ada yang mau percaya. "
        "Kemarin kami berbicara dengan para tetangga dan mengatakan apa yang kami pikirkan. Kalau kamu ingin naik kereta, kamu harus "
        "berangkat pagi-pagi. Belajar bahasa baru tidak mudah, tetapi dengan sedikit kesabaran setiap hari akan menjadi lebih baik."
    ),
}  # fmt: skip
_NOT_LETTERS = re.compile(r"[\W\d_]+")
_ALPHABET = 60  # letters imagined when an unseen pair is given its share
_LOOKED_AT = 600  # characters: a few hundred are enough
_WORST = -3.1  # mean log-probability (nats a letter) of English; keys hit at random have less than -4


def _prepare(text: str) -> str:
    return " " + _NOT_LETTERS.sub(" ", text.lower()).strip() + " "


class LetterModel:
    """Letters after the two before them, with shorter contexts mixed in (Witten-Bell weights)."""

    def __init__(self, text: str):
        text = _prepare(text)
        self._grams = [Counter(text[i : i + n] for i in range(len(text) - n + 1)) for n in (1, 2, 3)]
        self._contexts = [Counter({"": len(text)}), *(Counter(g[:-1] for g in grams.elements()) for grams in self._grams[1:])]
        self._different = [Counter(g[:-1] for g in grams) for grams in self._grams]

    @lru_cache(maxsize=30_000)  # noqa: B019 - models live as long as the process
    def _log_probability(self, gram: str) -> float:
        p = 1 / _ALPHABET
        for n in (1, 2, 3):
            part = gram[3 - n :]
            seen, kinds = self._contexts[n - 1][part[:-1]], self._different[n - 1][part[:-1]]
            if seen:
                p = (self._grams[n - 1][part] + kinds * p) / (seen + kinds)
        return math.log(p)

    def score(self, text: str) -> float:
        """Mean log-probability of a letter, nats; more is likelier."""
        text = " " + _prepare(text[:_LOOKED_AT])
        grams = [text[i : i + 3] for i in range(len(text) - 2)]
        return sum(map(self._log_probability, grams)) / len(grams)


@cache
def letter_models() -> dict[str, LetterModel]:
    return {language: LetterModel(text) for language, text in _TEXTS.items()}


def language_of(text: str, hangul: float = 0.3) -> tuple[str, float]:
    """The language ("ko", "en", "ja", "zh" or "other") and how sure that is (0-1).

    ``hangul`` is the share of Hangul among the letters from which a text counts as Korean: technical Korean is full of
    English names and code.
    """
    found = counts(text)
    total = letters(found)
    if not total:
        return "other", 1.0
    korean = (found[HANGUL] + found[RARE_HANGUL] + found[JAMO]) / total
    if korean >= hangul:
        return "ko", korean
    if found[KANA] >= 0.1 * (found[KANA] + found[HAN]) and found[KANA] + found[HAN] > 0.4 * total:
        return "ja", (found[KANA] + found[HAN]) / total
    if found[HAN] > 0.4 * total:
        return "zh", found[HAN] / total
    if found[LATIN] + found[ACCENTED] > 0.5 * total:
        scores = sorted(((model.score(text), language) for language, model in letter_models().items()), reverse=True)
        (best, language), (second, _) = scores[:2]
        if language == "en" and best > _WORST:
            return "en", 1 / (1 + math.exp(-20 * (best - second)))
    return "other", 1 - korean

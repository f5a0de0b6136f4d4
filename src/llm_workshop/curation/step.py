"""What every rule of a curation recipe is: a text goes in, the text (perhaps changed) or the reason to drop it comes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a text was dropped: ``reason`` is one word that is counted, ``detail`` the figure ("0.12 < 0.5")."""

    reason: str
    detail: str = ""


class Step(BaseModel, ABC):
    """One rule. Its fields are what a recipe may set; an unknown one is an error.

    A step keeps no memory of the texts that it has seen: shards are worked on by several processes, in any order, and
    again after an interruption.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: The word for it in a recipe, and its title (Korean) in the data card.
    name: ClassVar[str]
    title: ClassVar[str]
    #: Whether it reads what earlier rules have left in ``tags``.
    reads_tags: ClassVar[bool] = False

    def start(self) -> None:
        """Load what the rule needs (a model, a list), once in each process; raises ValueError if that cannot be had."""

    @abstractmethod
    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        """The text to go on with (the same object where nothing changed), or a ``Drop``.

        ``tags`` is the document's own dictionary: what a rule finds out (language, personal data, a score) is left
        there for later rules and for the data card. Its values are plain JSON.
        """

"""Many draws: the plain question again and again, sampled."""

import zlib
from collections.abc import Iterator

from nescio.audit.base import ATTACKS, Attack, Question, Setting, about
from nescio.audit.people import Fact

DRAWS = "many_draws"


@ATTACKS.register(DRAWS)
class ManyDraws(Attack):
    """Sample answers to the plain question at temperature 1; any of them counts."""

    title = "many draws"
    knows = "the plain question, and asks it often"

    def questions(self, fact: Fact, setting: Setting) -> Iterator[Question]:
        """Ask with one seed after the other."""
        for number in range(setting.draws):
            seed = zlib.crc32(f"{setting.seed}/{fact.id}/{number}".encode())
            yield about(fact, setting.plain(fact), temperature=1.0, seed=seed)

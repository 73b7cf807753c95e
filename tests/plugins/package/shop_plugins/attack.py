"""An attack: the plain question, shouted."""

from nescio.audit.base import Attack, about


class Shouted(Attack):
    title = "shouted"
    knows = "the plain question"

    def questions(self, fact, setting):
        yield about(fact, fact.asked_as(fact.asked.upper()))

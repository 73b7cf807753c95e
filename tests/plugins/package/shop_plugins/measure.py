"""A measure: the share of answers in capitals."""

from nescio.evaluation.base import Measure
from nescio.evaluation.columns import Column


class InCapitals(Measure):
    """Share of answers in capitals."""

    columns = (Column(key="capitals", header="capitals", meaning="share of the answers in capitals"),)

    def __init__(self, ending=""):
        self.ending = ending

    def score(self, task, found):
        def right(text):
            return text == text.upper() and text.endswith(self.ending)

        return [{"capitals": sum(map(right, one.answers)) / len(one.answers)} for one in found]

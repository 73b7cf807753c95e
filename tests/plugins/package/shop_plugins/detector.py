"""A detector: numbers of orders, such as AB-12345."""

import re

from nescio import Span


class Orders:
    """Finds the numbers of orders; `orders:AB` finds those that begin with AB."""

    def __init__(self, model, ignore=()):
        self.name = f"orders:{model}"
        self._pattern = re.compile(rf"\b{model or '[A-Z]{2}'}-\d{{5}}\b")

    def find(self, texts):
        return [
            [Span(match.start(), match.end(), "ORDER", match.group()) for match in self._pattern.finditer(text)]
            for text in texts
        ]

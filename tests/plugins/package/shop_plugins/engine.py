"""An engine: the torch engine's answers in capitals."""

from dataclasses import replace

from nescio import Engine, load


class Capitals(Engine):
    """Answers in capitals."""

    def __init__(self, model, adapters, options):
        self._inner, self._mark = load(model), options.get("mark", "")

    def generate(self, requests, progress=None):
        return [replace(one, text=one.text.upper() + self._mark) for one in self._inner.generate(requests, progress)]

    def score_batch(self, items, progress=None):
        return self._inner.score_batch(items, progress)

    def load_adapter(self, name, path):
        self._inner.load_adapter(name, path)

    def close(self):
        self._inner.close()

"""A detector of your own: a class with a `name` and a `find`, registered under a name.

Recipes, `nescio scan` and the server find it too, once a package names it as an entry point:

    [project.entry-points."nescio.detectors"]
    orders = "my_package.own_detector:OrderNumbers"
"""

import re
from collections.abc import Sequence

import nescio
from nescio.pii.registry import DETECTORS


@DETECTORS.register("orders")
class OrderNumbers:
    """Order numbers such as AB-12345; `orders:AB` finds those that begin with AB only."""

    def __init__(self, model: str, ignore: Sequence[str] = ()) -> None:
        self.name = f"orders:{model}"
        self._pattern = re.compile(rf"\b{model or '[A-Z]{2}'}-\d{{5}}\b")

    def find(self, texts: Sequence[str]) -> list[list[nescio.Span]]:
        """Return the spans of each text, in order of their start."""
        return [
            [nescio.Span(match.start(), match.end(), "ORDER", match.group()) for match in self._pattern.finditer(text)]
            for text in texts
        ]


if __name__ == "__main__":
    # ` + ` joins detectors: what any of them finds counts.
    detector = nescio.load_detector("orders:AB + orders:XY", deny=["Project Heron"])
    for spans in detector.find(["Where is AB-12345?", "XY-00001 belongs to Project Heron.", "CD-11111 is not ours."]):
        print([f"{span.label}: {span.text}" for span in spans])

"""The page at `/`, with the one policy that lets it run: its own script and style, this server, and nothing else."""

import base64
import hashlib
import re
from importlib.resources import files

PAGE = (files("nescio.serve") / "playground.html").read_text(encoding="utf-8")


def _hashes(tag: str) -> str:
    """The hashes by which a browser knows the page's own inline blocks of this tag."""
    blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", PAGE, re.S)
    digests = (base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in blocks)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src {_hashes('script')}; style-src {_hashes('style')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

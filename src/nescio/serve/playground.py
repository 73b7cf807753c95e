"""The playground page at `/`, with a content security policy that allows only its own script, style and server."""

import base64
import hashlib
import re
from importlib.resources import files


def _read(name: str) -> str:
    return (files("nescio.serve") / name).read_text(encoding="utf-8")


_SCRIPT = "".join(map(_read, ("playground.js", "playground_share.js", "playground_policy.js"))) + "enter();\n"
PAGE = (
    _read("playground.html")
    .replace("<style></style>", f"<style>\n{_read('playground.css')}</style>")
    .replace("<script></script>", f"<script>\n{_SCRIPT}</script>")
)


def _hashes(tag: str) -> str:
    """Return the hashes of the page's inline blocks of a tag, as a content security policy lists them."""
    blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", PAGE, re.S)
    digests = (base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in blocks)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src {_hashes('script')}; style-src {_hashes('style')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

"""The page at `/`: one self-contained HTML file, in the style of the report. Texts come as JSON and are set as text, never as markup."""

from __future__ import annotations

import base64
from hashlib import sha256
from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"
STYLE = Path(__file__).parents[1] / "report" / "templates" / "style.css"


def render(name: str, *, with_queries: bool) -> tuple[str, str]:
    """Return the page and its content security policy, which allows this script, this style, and this server.

    Args:
        name: of what is served.
        with_queries: whether a workspace's questions can be picked.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = STYLE.read_text("utf-8") + (TEMPLATES / "page.css").read_text("utf-8")
    script = (TEMPLATES / "page.js").read_text("utf-8")
    html = environment.get_template("page.html").render(name=name, with_queries=with_queries, style=style, script=script)
    allowed = f"style-src {_hash(style)}; script-src {_hash(script)}; connect-src 'self'; img-src data:"
    return html, f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"

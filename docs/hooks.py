"""What pages and docstrings say in a way that a site does not know.

Links to files outside of docs/, which are in the repository and not on the site, and Sphinx's
roles: :class:`Segmentation`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
_LINK = re.compile(r"\]\(((?:\.\./)+)([^)#\s]+)([^)]*)\)")
_ROLE = re.compile(r":(?:attr|class|exc|func|meth|mod):(?=<code)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Turn ``../README.md`` into its address in the repository."""
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def outside(match: re.Match[str]) -> str:
        up, path, anchor = match.groups()
        target = (folder / up / path).resolve()
        if target.is_relative_to(ROOT / "docs") or not target.exists():
            return match.group()
        return f"]({config.repo_url}/blob/main/{target.relative_to(ROOT).as_posix()}{anchor})"

    return _LINK.sub(outside, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Leave the code that a role marks."""
    return _ROLE.sub("", html)

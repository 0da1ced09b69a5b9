"""Lets pages link to files outside of docs/, which are not on the site but in the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
_LINK = re.compile(r"\]\(((?:\.\./)+)([^)#\s]+)([^)]*)\)")


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

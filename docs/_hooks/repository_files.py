"""Puts files of the repository that pages link to (examples, benchmarks, changelog) into the site.

A page of docs/ links to ``../examples/linear_vae.py``, which works where the repository is read. The site has the same
file beside its pages, so the link loses its ``../`` there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("examples", "benchmarks")
_SUFFIXES = (".md", ".png", ".py", ".yaml")
_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md")
_LINK = re.compile(rf"\]\(\.\./({'|'.join(map(re.escape, (*_FOLDERS, *_PAGES)))})")


def on_files(files: Files, config: Any) -> Files:
    """Adds them under the path that they have in the repository."""
    found = (path for folder in _FOLDERS for path in sorted((_ROOT / folder).rglob("*")))
    for path in (*found, *(_ROOT / page for page in _PAGES)):
        if path.suffix in _SUFFIXES:
            name = path.relative_to(_ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Takes the ``../`` out of links to them."""
    return _LINK.sub(r"](\1", markdown)

"""MkDocs hook for links from docs/ to other files of the repository, such as ../configs/lfw.flags.

The site does not contain these files, so it shows their paths as text. A path that does not exist
is a warning, which `mkdocs build --strict` turns into an error.
"""

import logging
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)#\s]*)[^)]*\)")
log = logging.getLogger("mkdocs.hooks.repository_links")


def on_page_markdown(markdown: str, page, **_) -> str:
    """Replaces each link to a repository file by its text and path."""

    def replace(link: re.Match) -> str:
        text, path = link[1], link[2]
        if not (ROOT / path).exists():
            log.warning("%s links to %s, which does not exist", page.file.src_uri, path)
        return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"

    return LINK.sub(replace, markdown)

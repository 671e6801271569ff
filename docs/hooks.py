"""Fills the pages of the site with fragments that `generate` makes from the code, and with documents of the tree."""

from __future__ import annotations

import importlib.util
import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
_MARKER = re.compile(r"<!-- (generated|document): (\S+) -->")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
# Documents that stand elsewhere in the tree -> their pages.
DOCUMENTS = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "samples/nucleus/RESULTS.md": "results/trainings.md",
    "samples/nucleus/data/README.md": "results/shipped-images.md",
    "weights/nucleus_unet.md": "results/nucleus_unet.md",
    "weights/nucleus_light.md": "results/nucleus_light.md",
    "weights/nucleus_fusion.md": "results/nucleus_fusion.md",
    "weights/nucleus_mask_rcnn.md": "results/nucleus_mask_rcnn.md",
    "weights/efficientnet_lite0_imagenet.md": "results/efficientnet_lite0_imagenet.md",
    "benchmarks/README.md": "benchmarks.md",
}
# The home page is a section of its own: a list of its one page says nothing.
_FRONT_MATTER = {"index.md": "---\nhide: [navigation]\n---\n\n"}


def _load_generate() -> Any:
    spec = importlib.util.spec_from_file_location("docs_generate", Path(__file__).with_name("generate.py"))
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# Keras is imported for the public names of the package: without a GPU, and without its native log lines.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
generate = _load_generate()


def on_config(config: MkDocsConfig) -> None:
    """Adds the pages of the Python reference to the navigation, behind its front page."""
    section = _section_with(config.nav, "reference/python/index.md")
    section += [{page: f"reference/python/{page}.md"} for page in generate.python_pages()]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Adds the pages that have no file in `docs`."""
    for page, text in generate.python_pages().items():
        files.append(File.generated(config, f"reference/python/{page}.md", content=text))
    for source, target in DOCUMENTS.items():
        files.append(
            File.generated(config, target, content=f"{_FRONT_MATTER.get(target, '')}<!-- document: {source} -->")
        )


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Replaces the markers of a page."""

    def replace(match: re.Match) -> str:
        if match[1] == "document":
            return document(match[2], page.file.src_uri)
        if match[2] not in generate.FRAGMENTS:
            raise PluginError(f"{page.file.src_uri}: there is nothing to generate that is called {match[2]!r}")
        return generate.FRAGMENTS[match[2]]()

    return _MARKER.sub(replace, markdown)


def document(source: str, page: str) -> str:
    """Returns a document of the tree with its links turned to those of the site.

    A link to a file that is no page becomes the file's name.

    Args:
        source: Path of the document in the tree.
        page: Path of the page that shows it, in `docs`.
    """
    text = (ROOT / source).read_text(encoding="utf-8")

    def turn(match: re.Match) -> str:
        mark, shown, target = match.groups()
        link, hash_sign, anchor = target.partition("#")
        if "://" in link or not link:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        if path not in DOCUMENTS and not path.startswith("docs/"):
            return shown
        place = posixpath.relpath(DOCUMENTS.get(path, path.removeprefix("docs/")), posixpath.dirname(page) or ".")
        return f"{mark}[{shown}]({place}{hash_sign}{anchor})"

    return _LINK.sub(turn, text)


def _section_with(nav: list[Any], page: str) -> list[Any]:
    """Returns the section of the navigation that holds a page."""
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else ():
            if isinstance(value, list):
                if any(page in item.values() for item in value if isinstance(item, dict)):
                    return value
                found = _section_with(value, page)
                if found:
                    return found
    return []

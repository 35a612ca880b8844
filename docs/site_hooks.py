"""What mkdocs.yml cannot say: pages whose Markdown lies outside docs/, and links that hold on GitHub and on the site alike."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = "docs/"
# A file of the repository to its page.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
LINK = re.compile(r"(?<=\]\()(?P<path>[\w./-]+)(?P<anchor>#[\w-]+)?(?=\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists every decision in the navigation, in the order of their numbers."""
    decisions = sorted((REPOSITORY / DOCS / "adr").glob("*.md"), key=lambda path: (path.name != "README.md", path.name))
    for item in config.nav or []:
        if "Decisions" in item:
            item["Decisions"] = [path.relative_to(REPOSITORY / DOCS).as_posix() for path in decisions]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie beside docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(REPOSITORY / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links between files of the repository into links between pages. A file that is no page, such as an example DAG, is
    copied to the site under its path; mkdocs reports a link to something that does not exist.
    """
    assert page.file.abs_src_path is not None
    folder = posixpath.dirname(Path(page.file.abs_src_path).relative_to(REPOSITORY).as_posix())

    def on_the_site(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, found["path"]))
        there = REPOSITORY / target
        if there.is_dir() and (there / "README.md").exists():
            target = f"{target}/README.md"
        elif not there.is_file():
            return found[0]
        uri = PAGES.get(target, target.removeprefix(DOCS))
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, abs_src_path=str(there)))
        return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or os.curdir) + (found["anchor"] or "")

    return LINK.sub(on_the_site, markdown)

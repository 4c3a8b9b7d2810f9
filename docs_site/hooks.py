"""Hooks of MkDocs: generated pages, pages that lie outside `docs`, and links to what is no page."""

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs_site.commands import commands_page
from docs_site.protocol import protocol_page

ROOT = Path(__file__).parents[1]
# Where files of the repository that are no part of `docs` stand in the site.
BORROWED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/RESULTS.md": "results/index.md",
}
# Search works without a server with this script, which the theme would fetch from the network.
REMOTE_SHIM = "https://unpkg.com/iframe-worker/shim"
SHIM = "assets/javascripts/iframe-worker.js"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated and the borrowed pages, with the pictures that they show."""
    generated = {
        "reference/protocol.md": protocol_page(ROOT / "protos"),
        "reference/commands.md": commands_page(),
        "adr/index.md": _decisions_page(),
    }
    for source, destination in BORROWED.items():
        generated[destination] = (ROOT / source).read_text()
    for uri, content in generated.items():
        files.append(File.generated(config, uri, content=content))
    for picture in sorted((ROOT / "benchmarks").glob("*.png")):
        files.append(File.generated(config, f"results/{picture.name}", abs_src_path=str(picture)))
    files.append(File.generated(config, SHIM, abs_src_path=str(ROOT / "docs_site" / "iframe_worker" / "shim.js")))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Load everything from the site itself."""
    return output.replace(REMOTE_SHIM, _relative(page.file.src_uri, SHIM))


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:
    """The same for the page that says that there is no such page."""
    return output_content.replace(REMOTE_SHIM, SHIM)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to where their targets stand in the site; show links to source files as their paths."""
    sources = {destination: source for source, destination in BORROWED.items()}
    uri = page.file.src_uri
    written_in = PurePosixPath(sources.get(uri, f"docs/{uri}")).parent

    def rewrite(match: re.Match[str]) -> str:
        picture, text, target, anchor = match[1], match[2], match[3], match[4] or ""
        path = _normal(written_in / target)
        if not (ROOT / path).exists():
            # A generated page, or a mistake: MkDocs says which.
            return match[0]
        destination = BORROWED.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if path.startswith("benchmarks/") and path.endswith(".png"):
            destination = path.replace("benchmarks/", "results/", 1)
        if destination is None or (ROOT / path).is_dir():
            return f"{text} (`{path}`)" if path not in text else text
        return f"{picture}[{text}]({_relative(uri, destination)}{anchor})"

    return _LINK.sub(rewrite, markdown)


def _decisions_page() -> str:
    lines = ["# Decisions", "", "Why something is as it is, one page each.", ""]
    for path in sorted((ROOT / "docs" / "adr").glob("*.md")):
        title = path.read_text().partition("\n")[0].removeprefix("#").strip()
        lines.append(f"- [{title}]({path.name})")
    return "\n".join(lines)


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _relative(page: str, destination: str) -> str:
    return "../" * page.count("/") + destination


def on_config(config: MkDocsConfig) -> Any:
    """Stop where the configuration was read from another directory: all paths are relative to this one."""
    if Path(config.docs_dir).parent != ROOT:
        raise ValueError("run mkdocs in the root of the repository")
    return config

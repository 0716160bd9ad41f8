"""The site: Markdown by MyST, the API reference from docstrings. It is built offline, warnings are errors."""

import re

import keras_robust_prune as krp

project = "keras-robust-prune"
author = "the keras-robust-prune authors"
release = version = krp.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = project
html_theme_options = {"source_edit_link": ""}
html_show_sourcelink = html_copy_source = html_show_copyright = False
# Formulas are shown as written where MathJax cannot be fetched; nothing else is loaded from outside.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"show-inheritance": False}
napoleon_google_docstring = True
napoleon_use_ivar = True
napoleon_use_rtype = False


def markdown_links(app, what, name, thing, options, lines):
    """`[text](address)` of docstrings, which are Markdown, in the notation that autodoc reads."""
    text = "\n".join(lines)
    text = re.sub(r"\[([^\]]+)\]\((https?://[^)]+)\)", r"`\1 <\2>`__", text)
    lines[:] = text.split("\n")


def menu(app):
    """`api.md` lists exactly the public names."""
    listed = set(re.findall(r"keras_robust_prune\.(\w+)", (app.srcdir / "api.md").read_text()))
    missing = sorted(set(krp.MENU) - listed)
    if missing:
        raise RuntimeError(f"docs/api.md lacks {', '.join(missing)}")


# What the theme leaves out of what screen readers and keyboards need.
ACCESSIBLE = {
    '<p class="caption" role="heading">': '<p class="caption" role="heading" aria-level="2">',
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="Site">',
    '<aside class="toc-drawer': '<aside aria-label="Page" class="toc-drawer',
    "<pre>": '<pre tabindex="0">',  # a wide one scrolls
}


def accessible(app, error):
    """Mends the pages that were written."""
    for path in [] if error else app.outdir.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for given, better in ACCESSIBLE.items():
            text = text.replace(given, better)
        path.write_text(text, encoding="utf-8")


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", markdown_links)
    app.connect("builder-inited", menu)
    app.connect("build-finished", accessible)

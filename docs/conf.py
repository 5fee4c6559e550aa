"""How Sphinx builds these pages: `./run docs`. Everything a page needs lies beside it, so that it can be read offline."""

project = "Apstra certificate runbooks"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = project
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["style"]
html_css_files = ["pages.css"]

"""The documentation as a site: what `mkdocs.yml` adds to the pages in `docs`."""

"""The HTML page of a run: where it goes wrong, and what it looks at there."""

from jaxvision.explain.page.write import write_page

__all__ = ["write_page"]

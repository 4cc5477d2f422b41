"""The page: Gradio's frame around elements of our own: <photo-search>, <hardness-lens>, <photo-gallery> and <training-runs>.

The elements call the same routes as every other program, so that a photo searched on the page goes to the encoder as the very
bytes that were chosen, and page and programs cannot give different answers.
"""

import os
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.routing import Mount

from app.page_routes import PageRoutesOnly

_FILES = Path(__file__).parent / "page"
_HEAD = """
<link rel="icon" href="/page/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/page/frame.css">
<script type="module" src="/page/page.js"></script>
"""


def mount_page(api: FastAPI) -> None:
    """Put the page at ``/`` and its files beside it; nothing on it comes from another host."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
    import gradio

    api.mount("/page", StaticFiles(directory=_FILES))

    # Browsers ask for it before the page names its icon, and would show Gradio's until then.
    @api.get("/favicon.ico", include_in_schema=False)
    def icon() -> FileResponse:
        return FileResponse(_FILES / "icon.svg", media_type="image/svg+xml")

    with gradio.Blocks(title="hdml", analytics_enabled=False, fill_width=True) as page:
        gradio.HTML("<hdml-header></hdml-header>", apply_default_css=False)
        with gradio.Tabs():
            with gradio.Tab("Search", id="search"):
                gradio.HTML("<photo-search></photo-search>", apply_default_css=False)
            with gradio.Tab("Hardness lens", id="lens"):
                gradio.HTML("<hardness-lens></hardness-lens>", apply_default_css=False)
            with gradio.Tab("Gallery", id="gallery"):
                gradio.HTML("<photo-gallery></photo-gallery>", apply_default_css=False)
            with gradio.Tab("Runs", id="runs"):
                gradio.HTML("<training-runs></training-runs>", apply_default_css=False)
    # The default theme asks Google for its fonts.
    theme = gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    gradio.mount_gradio_app(api, page, path="/", head=_HEAD, theme=theme, footer_links=[], run_history=False)
    mounted = api.routes[-1]
    if not isinstance(mounted, Mount):
        raise TypeError(f"Gradio must be mounted as the last route, but that is {mounted}")
    mounted.app = PageRoutesOnly(mounted.app)

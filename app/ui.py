"""The page: Gradio's frame around elements of our own: <photo-search>, <hardness-lens>, <photo-gallery> and <training-runs>.

The elements call the same routes as every other program, so that a photo searched on the page goes to the encoder as the very
bytes that were chosen, and page and programs cannot give different answers.
"""

import importlib.resources
import os
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from app.uploads import MAX_UPLOAD

_FILES = Path(__file__).parent / "page"
_HEAD = """
<link rel="icon" href="/page/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/page/frame.css">
<script src="/plotly.min.js" defer></script>
<script type="module" src="/page/page.js"></script>
"""
_HOUR = 3600  # seconds


def mount_page(api: FastAPI) -> FastAPI:
    """Put the page at ``/`` and its files beside it; nothing on it comes from another host."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
    import gradio

    api.mount("/page", StaticFiles(directory=_FILES))

    @api.get("/plotly.min.js", include_in_schema=False)
    def plotly() -> FileResponse:
        file = importlib.resources.files("plotly") / "package_data" / "plotly.min.js"
        return FileResponse(str(file), media_type="text/javascript", headers={"Cache-Control": "private, max-age=86400"})

    # Gradio would store whatever is sent to it; a route made before its own takes precedence.
    @api.post("/gradio_api/upload", include_in_schema=False)
    def no_upload() -> None:
        raise HTTPException(HTTPStatus.NOT_FOUND, "Photos are sent to /v1/search, which keeps none.")

    with gradio.Blocks(title="hdml", analytics_enabled=False, fill_width=True, delete_cache=(_HOUR, _HOUR)) as page:
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
    mounted: FastAPI = gradio.mount_gradio_app(
        api, page, path="/", head=_HEAD, theme=theme, footer_links=[], max_file_size=MAX_UPLOAD
    )
    return mounted

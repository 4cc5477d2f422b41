"""Every part of the page in light and dark: nothing that axe-core calls serious or critical, and no width too small for it."""

import pytest
from playwright.sync_api import Page, expect

from indexing.search import OpenIndex
from tests.app.conftest import WIDER_THAN_WINDOW, check_accessible

PARTS = {
    "?id=1&group=true": "photo-search .card",
    "?tab=lens&anchor=2": "hardness-lens .tile",
    "?tab=gallery&label=blue-left": "photo-gallery .cell img",
    "?tab=gallery&open=3&at=2": "photo-gallery dialog .similar li",
    "?tab=gallery&view=figures": "photo-gallery .cards section",
    "?tab=runs": "training-runs tbody tr",
}


@pytest.mark.parametrize("asked", PARTS)
def test_part_is_accessible_and_fits(page: Page, address: str, opened: OpenIndex, asked: str) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.goto(f"{address}/{asked}")
        page.locator(PARTS[asked]).first.wait_for()
        if "?id" in asked:
            page.locator("photo-search summary").click()
            expect(page.get_by_role("checkbox", name="Only matches")).to_be_disabled()
        expect(page.locator("body.dark")).to_have_count(int(scheme == "dark"))
        check_accessible(page)
        for width in (390, 1024, 1440):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate(WIDER_THAN_WINDOW) <= 0

"""The gallery's routes: items in order and page by page, and figures that agree with the files they are of."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from indexing.descriptions import Descriptions
from indexing.indexer import update_index
from indexing.items import ORDERS
from indexing.search import OpenIndex
from indexing.workspace import Workspace


def listed(client: TestClient, **parameters: Any) -> list[dict[str, Any]]:
    answer = client.get("/v1/items", params=parameters)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def test_pages_together_are_all_items_in_order(client: TestClient, opened: OpenIndex) -> None:
    keys: dict[str, Callable[[dict[str, Any]], Any]] = {
        "path": lambda item: item["path"],
        "label": lambda item: (item["label"], item["path"]),
    }
    for order, key in keys.items():
        pages = [listed(client, sort=order, offset=offset, limit=7) for offset in (0, 7, 14, 21)]
        assert [len(page) for page in pages] == [7, 7, 6, 0]
        assert [item for page in pages for item in page] == sorted(listed(client, offset=0), key=key)
    assert [item["id"] for item in listed(client, offset=0)] == sorted(item.id for item in opened.catalogue.items())


def test_orders_are_of_time_and_size(client: TestClient, photos: Path) -> None:
    def sizes(item: dict[str, Any]) -> tuple[int, int]:
        return -item["width"] * item["height"], item["id"]

    newest = listed(client, sort="newest")
    assert [item["path"] for item in newest] == sorted(
        (item["path"] for item in newest), key=lambda path: -(photos / path).stat().st_mtime_ns
    )
    assert listed(client, sort="largest") == sorted(newest, key=sizes)
    assert set(ORDERS) == {"id", "path", "label", "newest", "oldest", "largest", "smallest"}


def test_an_item_tells_what_its_file_is(client: TestClient, photos: Path) -> None:
    (item,) = listed(client, path="blue-left/1.jpg")
    with Image.open(photos / "blue-left/1.jpg") as image:
        assert (item["width"], item["height"]) == image.size
    assert item["size"] == (photos / "blue-left/1.jpg").stat().st_size
    assert set(item) == {"id", "path", "label", "attributes", "width", "height", "size", "changed"}


def test_filters_narrow_items_and_their_total(client: TestClient) -> None:
    answer = client.get("/v1/items?label=red-right&label=blue-left&path=*/[01].jpg&limit=3").json()
    assert (len(answer["items"]), answer["total"]) == (3, 4)
    assert client.get("/v1/items?attribute=colour%3Dred").json() == {"items": [], "total": 0}
    assert client.get("/v1/items?since=lately").status_code == 400
    assert client.get("/v1/items?sort=random()").status_code == 422


def test_what_another_process_indexed_is_listed_at_once(client: TestClient, workspace: Workspace, photos: Path) -> None:
    assert len(listed(client, sort="path")) == 20
    Image.new("RGB", (64, 64), "white").save(photos / "blue-left" / "new.jpg")
    update_index(photos, workspace.find_index(), workspace.newest_encoder(), device="cpu")
    assert "blue-left/new.jpg" in [item["path"] for item in listed(client, sort="path")]


def test_statistics_count_what_is_there(client: TestClient, workspace: Workspace, photos: Path) -> None:
    (photos / "blue-left" / "torn.jpg").write_bytes(b"no photo")
    update_index(photos, workspace.find_index(), workspace.newest_encoder(), device="cpu")
    found = client.get("/v1/statistics").json()
    files = [path for path in photos.rglob("*.*") if path.name != "torn.jpg"]
    labels = Counter(path.parent.name for path in files)
    assert (found["items"], found["failed"], found["unlabelled"]) == (len(files), 1, 0)
    assert {entry["label"]: entry["items"] for entry in found["labels"]} == labels
    assert found["bytes"]["photos"] == sum(path.stat().st_size for path in files)
    index = workspace.find_index()
    assert found["bytes"]["index"] == sum(path.stat().st_size for path in index.rglob("*") if path.is_file())
    for bar in found["sides"]:
        sides = [min(Image.open(path).size) for path in files]
        assert bar["items"] == sum(bar["from"] <= side < (bar["below"] or 10**9) for side in sides)
    assert found["quality"]["kind"] == "exact"
    assert str(photos) not in client.get("/v1/statistics").text
    assert client.get("/v1/failures").json()["failures"][0]["path"] == "blue-left/torn.jpg"
    assert client.get("/v1/failures?offset=1").json() == {"failures": [], "total": 1}


def test_attributes_are_counted_whatever_they_are_called(
    client: TestClient, workspace: Workspace, photos: Path, tmp_path: Path
) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    table = tmp_path / "table.csv"
    table.write_text(f"path,{hostile},colour\n{photos}/blue-left/1.jpg,<b>,blue\n")
    update_index(
        photos, workspace.find_index(), workspace.newest_encoder(), device="cpu", descriptions=Descriptions(manifest=table)
    )
    found = client.get("/v1/statistics").json()["attributes"]
    assert {one["name"]: one["values"] for one in found} == {
        hostile: [{"value": "<b>", "items": 1}],
        "colour": [{"value": "blue", "items": 1}],
    }


def test_generations_are_the_bases_on_the_disk(client: TestClient, workspace: Workspace, opened: OpenIndex) -> None:
    found = client.get("/v1/generations").json()
    (base,) = found["bases"]
    file = workspace.find_index() / f"index.{base['generation']}.faiss"
    assert (base["searched"], base["bytes"]) == (True, file.stat().st_size)
    assert found["changed_since"] == 0
    assert found["models"] == [{"model": opened.model, "dimension": 32, "vectors": 20, "live": True}]


@pytest.mark.parametrize("route", ["/v1/statistics", "/v1/failures", "/v1/generations"])
def test_an_unknown_index_is_a_404(client: TestClient, route: str) -> None:
    assert client.get(route, params={"index": "../photos"}).status_code == 404

"""The container's files, without Docker: what is copied is there, who runs it, and that what is left out is not needed."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cli.serving import HOST, PORT
from tools.container_requirements import requirements

ROOT = Path(__file__).parents[2]
INSTRUCTIONS = [
    line for line in re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text()).splitlines() if line and not line.startswith("#")
]
DEPENDENCIES = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
WITHOUT = ("torch", "torchvision", "pytorch_metric_learning", "safetensors", "onnxscript")


def those(word: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in INSTRUCTIONS if line.split()[0] == word]


def test_what_is_copied_is_there_and_let_in() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [source for copy in those("COPY") if not copy.startswith("--from") for source in copy.split()[:-1]]
    assert set(sources) == let_in
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_it_runs_as_a_user_without_rights_and_with_no_secret() -> None:
    words = [line.split()[0] for line in INSTRUCTIONS]
    assert those("USER") == ["hdml"]
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert not any("TOKEN" in line or "--insecure" in line for line in INSTRUCTIONS)
    assert those("VOLUME") == ["/workspace"]


def test_its_health_is_asked_where_it_listens() -> None:
    assert f"http://{HOST}:{PORT}/healthz" in those("HEALTHCHECK")[0]
    assert those("EXPOSE") == [str(PORT)]


@pytest.mark.parametrize(("device", "has", "has_not"), [("cpu", "faiss-cpu", "gpu"), ("cuda", "faiss-gpu", "faiss-cpu")])
def test_each_device_has_its_own_packages(device: str, has: str, has_not: str) -> None:
    named = requirements(DEPENDENCIES, device)
    assert any(one.startswith(has) for one in named)
    assert not any(has_not in one for one in named)
    assert any(one.startswith("onnxruntime") for one in named)
    assert not any(one.startswith("torch") or ";" in one for one in named)
    assert "gradio>=6.31,<7" in named


def test_server_and_commands_start_without_what_is_left_out(tmp_path: Path) -> None:
    script = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[2].split(","), None))
from pathlib import Path
from fastapi.testclient import TestClient
from app.server import create_app
from cli.main import app
from indexing.workspace import Workspace

with TestClient(create_app(Workspace(Path(sys.argv[1])), device="cpu"), base_url="http://127.0.0.1") as client:
    assert client.get("/").status_code == 200
import indexing.indexer, indexing.migration, indexing.audit, indexing.hardness, indexing.exporting, indexing.bundle
"""
    subprocess.run([sys.executable, "-P", "-c", script, tmp_path, ",".join(WITHOUT)], check=True, cwd=ROOT)

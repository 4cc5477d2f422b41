"""``hdml audit``."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import Command


def test_audit_writes_a_report_and_tells_the_counts(hdml: Command, workspace: Path, photos: Path) -> None:
    shutil.copy(photos / "blue-left" / "0.jpg", photos / "blue-right" / "copy.jpg")
    hdml("index", photos)
    answer = hdml("audit", "--json").json
    assert answer["duplicates"]["exact"] == 1
    assert answer["duplicates_across_classes"] == 1
    page = Path(answer["report"])
    assert page == workspace / "audits" / "photos" / "report.html"
    assert json.loads(page.with_suffix(".json").read_text())["summary"]["photos"] == answer["photos"] == 21
    told = hdml("audit", "photos", "--out", workspace / "elsewhere").stdout
    assert "1 exact" in told
    assert (workspace / "elsewhere" / "report.html").is_file()


def test_audit_without_an_index_says_what_to_do(hdml: Command, workspace: Path) -> None:
    assert 'make one with "hdml index FOLDER"' in hdml("audit").sentence


def test_audit_to_a_place_that_cannot_be_written_is_one_sentence(hdml: Command, workspace: Path, photos: Path) -> None:
    hdml("index", photos)
    (workspace / "file").write_text("")
    assert "cannot be written" in hdml("audit", "--out", workspace / "file").sentence


def test_audit_does_not_need_torch() -> None:
    code = "import sys, indexing.audit, indexing.audit_report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""The mutants of the method: their table is the one in the docs, and what survives or cannot be judged is told.

``make mutants`` runs them all, which takes minutes.
"""

import ast
from pathlib import Path

import pytest

from tools.mutants import MUTANTS, ROOT, Mutant, run_mutants, table


def test_table_in_the_docs_is_the_one_that_is_run() -> None:
    assert table(MUTANTS) in (ROOT / "docs" / "method.md").read_text()


def test_every_trap_has_a_mutant_and_every_name_is_used_once() -> None:
    assert {mutant.trap for mutant in MUTANTS} == {*"1234567", "–"}
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_line_of_a_mutant_is_there_once_and_so_are_its_tests(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text()
    assert text.count(mutant.old) == 1
    assert "\n" not in mutant.old + mutant.new
    ast.parse(text.replace(mutant.old, mutant.new))
    assert mutant.tests
    for test in mutant.tests:
        file, name = test.split("::")
        functions = [node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)]
        assert functions.count(name.split("[")[0]) == 1


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A function of a package, a test that holds it to its word, one that does not, and one that fails."""
    (tmp_path / "sums").mkdir()
    (tmp_path / "sums" / "__init__.py").write_text("def add(a, b):\n    return a + b\n\n\nTWICE = 2 * 2\n")
    (tmp_path / "test_sums.py").write_text(
        "from sums import add\n\n\n"
        "def test_add():\n    assert add(1, 2) == 3\n\n\n"
        "def test_little():\n    assert add(0, 0) == 0\n\n\n"
        "def test_wrong():\n    assert add(1, 2) == 4\n"
    )
    return tmp_path


def mutant(old: str, test: str, new: str = "a - b") -> Mutant:
    return Mutant("wrong sum", "–", "sums/__init__.py", old, new, (f"test_sums.py::{test}",))


def run(package: Path, *mutants: Mutant) -> int:
    return run_mutants(mutants, package, ("sums", "test_sums.py"))


def test_killed_mutants_leave_status_0_and_the_files_as_they_were(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (package / "sums" / "__init__.py").read_text()
    assert run(package, mutant("a + b", "test_add"), mutant("a + b", "test_add", "b")) == 0
    assert capsys.readouterr().out.endswith("2 of 2 mutants were killed by the tests named for them\n")
    assert (package / "sums" / "__init__.py").read_text() == before
    assert sorted(path.name for path in package.iterdir()) == ["sums", "test_sums.py"]


@pytest.mark.parametrize(
    ("found_out", "said"),
    [
        (mutant("a + b", "test_little"), "SURVIVED"),
        (mutant("a * b", "test_add"), "old line found 0 times"),
        (mutant("2", "test_add"), "old line found 2 times"),
        (mutant("a + b", "test_wrong"), "test fails unmutated"),
        (mutant("a + b", "test_add", "a +"), "tests did not run"),
    ],
    ids=["survivor", "line not there", "line there twice", "failing test", "no Python"],
)
def test_mutant_that_is_not_killed_is_told_and_leaves_status_1(
    package: Path, capsys: pytest.CaptureFixture[str], found_out: Mutant, said: str
) -> None:
    assert run(package, mutant("a + b", "test_add"), found_out) == 1
    first, second, total = capsys.readouterr().out.splitlines()
    assert first.startswith("killed ")
    assert second.startswith(f"{said} ")
    assert total.startswith("1 of 2 mutants were killed")

"""What is written about the product agrees with the product."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import app

ROOT = Path(__file__).parents[1]
PROGRAM: Any = typer.main.get_command(app)
GROUPS: dict[str, Any] = {name: command for name, command in PROGRAM.commands.items() if hasattr(command, "commands")}
COMMANDS: dict[str, Any] = {name: command for name, command in PROGRAM.commands.items() if name not in GROUPS} | {
    f"{name} {sub}": command for name, group in GROUPS.items() for sub, command in group.commands.items()
}
# Spelled in parts, so that this file does not hold what it forbids.
FORBIDDEN = ("/" + "work/", "/" + "root/", "py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "deb.deb" + "ian.org")


def tracked_files() -> Iterator[tuple[str, str]]:
    """Name and text of every file in the repository that is text."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        path = ROOT / name
        content = path.read_bytes() if path.exists() else b""  # removed, but not yet committed
        if b"\0" not in content:
            yield name, content.decode()


@pytest.mark.parametrize("name", COMMANDS)
def test_command_explains_itself_with_an_example(name: str) -> None:
    command = COMMANDS[name]
    assert "Example" in (command.help or "")
    assert f"hdml {name}" in command.help
    unexplained = [parameter.name for parameter in command.params if not getattr(parameter, "help", None)]
    assert unexplained == []


def test_program_itself_explains_its_options() -> None:
    assert PROGRAM.help
    assert [parameter.name for parameter in PROGRAM.params if not parameter.help] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_in_the_readme_or_the_docs(name: str) -> None:
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert any(re.search(rf"\bhdml {name}\b", text.read_text()) for text in texts)


def test_documents_name_only_commands_and_options_that_exist() -> None:
    texts = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    # A command is written as code: behind a back-quote, or at the start of a line of a code block.
    written = [line for text in texts for line in re.findall(r"(?:`|^\s*)hdml ([a-z][^`\n#]*)", text.read_text(), re.MULTILINE)]
    unknown = []
    for line in written:
        name, *words = line.split()
        if name in GROUPS:
            name, words = f"{name} {words[0]}", words[1:]
        parameters = COMMANDS[name].params if name in COMMANDS else []
        options = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
        if name not in COMMANDS or not {word.split("=")[0] for word in words if word.startswith("--")} <= options | {"--help"}:
            unknown.append(f"hdml {line}")
    assert unknown == []


def test_links_and_pictures_lead_to_files_that_are_there() -> None:
    broken = []
    for text in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)\s#]+)", text.read_text()):
            if "://" not in target and not (text.parent / target).exists():
                broken.append(f"{text.name}: {target}")
    assert broken == []


def test_changelog_has_a_place_for_what_comes_next() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[?Unreleased\]?$", changelog, re.MULTILINE)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)


def test_method_names_every_variant_every_loss_and_all_that_is_logged() -> None:
    from hdml.diagnostics import Spread, StepFigures
    from hdml.hardness import VARIANTS
    from hdml.metric_losses import LOSSES

    text = (ROOT / "docs" / "method.md").read_text()
    names = [*VARIANTS, *LOSSES, *StepFigures.__dataclass_fields__, *Spread.__dataclass_fields__]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets is not None
    shown = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert set(re.findall(r"make (\w+)", shown)) == set(targets[1].split())


def test_constraints_are_exact_versions_without_hashes_or_addresses() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9.-]+==[\w.]+( ; [\w\s.'<>=!()]+)?", line)] == []


def test_no_file_tells_of_one_machine_or_one_registry() -> None:
    found = [(name, word) for name, text in tracked_files() for word in FORBIDDEN if word in text]
    assert found == []

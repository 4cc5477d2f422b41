"""Which ways to a Chromium ``make test`` tries on which system."""

import pytest

from tools.chromium import installations

DEBIAN = {"ID": "debian"}
UBUNTU = {"ID": "ubuntu", "ID_LIKE": "debian"}
MINT = {"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}
RASPBIAN = {"ID": "raspbian", "ID_LIKE": "debian"}


@pytest.mark.parametrize("system", [DEBIAN, RASPBIAN])
def test_debians_package_comes_first_where_it_may_be_installed(system: dict[str, str]) -> None:
    first, second = installations(system, ["sudo", "-n"])
    assert first[:2] == ["sudo", "-n"]
    assert first[-1].endswith("chromium")
    assert "apt-get install" in first[-1]
    assert "playwright" in second


@pytest.mark.parametrize("system", [UBUNTU, MINT, {}, {"ID": "fedora"}])
def test_elsewhere_playwrights_own_is_the_only_way(system: dict[str, str]) -> None:
    (only,) = installations(system, [])
    assert only[-1] == "chromium"
    assert "playwright" in only


@pytest.mark.parametrize("system", [DEBIAN, UBUNTU])
def test_user_without_privilege_gets_no_system_package(system: dict[str, str]) -> None:
    (only,) = installations(system, None)
    assert "--with-deps" not in only
    assert "apt-get" not in " ".join(only)

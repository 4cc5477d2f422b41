"""See to it that the page's tests have a Chromium, as far as this machine and user allow: what ``make test`` runs.

A browser that is already here, or that HDML_CHROMIUM names, is taken as it is and nothing is installed.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping

from cli.chromium import VARIABLE, find_chromium
from indexing.errors import HdmlError

_PLAYWRIGHT = [sys.executable, "-m", "playwright", "install"]


def main() -> None:
    """Find a Chromium, else install one, else say how to."""
    try:
        if find_chromium():
            return
    except HdmlError as error:
        sys.exit(f"error: {error}")
    for command in installations(_os_release(), privilege()):
        print("no Chromium here; running:", " ".join(command), flush=True)
        try:
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        except subprocess.CalledProcessError:
            continue  # the sentence below says what is left to do
        if find_chromium():
            return
    print(f"the page's tests need Chromium or Google Chrome: install one, or name one with {VARIABLE}=/path/to/chromium")


def privilege() -> list[str] | None:
    """What to put before a command that only root may run; None when this user may not."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    may = sudo is not None and subprocess.run([sudo, "-n", "true"], capture_output=True).returncode == 0
    return ["sudo", "-n"] if may else None


def installations(system: Mapping[str, str], prefix: list[str] | None) -> list[list[str]]:
    """Commands to try, best first, each of which should leave a Chromium behind.

    Args:
        system: the fields of /etc/os-release.
        prefix: see ``privilege``.
    """
    commands = []
    family = {system.get("ID"), *system.get("ID_LIKE", "").split()}
    # Ubuntu's package chromium only points to a snap, which cannot be relied on in a container.
    if prefix is not None and "debian" in family and "ubuntu" not in family:
        install = "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium"
        commands.append([*prefix, "sh", "-c", install])
    with_libraries = ["--with-deps"] if prefix is not None and platform.system() == "Linux" else []
    commands.append([*_PLAYWRIGHT, *with_libraries, "chromium"])
    return commands


def _os_release() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


if __name__ == "__main__":
    main()

"""Compute the security rating the Supervisor will show for the app, and fail if it is below the best, 8.

The rule is the Supervisor's own (``rating_security`` in its ``apps/utils.py``): 5 to begin with, so much more or less
for each of the things below, 1 at least and 8 at most.
"""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

BEST = 8
_BEGINNING, _LEAST = 5, 1
_PRIVILEGES = {
    "BPF",
    "CHECKPOINT_RESTORE",
    "DAC_READ_SEARCH",
    "NET_ADMIN",
    "NET_RAW",
    "PERFMON",
    "SYS_ADMIN",
    "SYS_MODULE",
    "SYS_PTRACE",
    "SYS_RAWIO",
}
_ROLES = {"manager": -1, "admin": -2}
_PROFILE = re.compile(r"^profile ([^ ]+).*$", re.MULTILINE)

type Config = Mapping[str, Any]

_PARTS: Mapping[str, Callable[[Config], int]] = {
    "ingress, or else Home Assistant's login": lambda app: 2 if app.get("ingress") else int(bool(app.get("auth_api"))),
    "privileges, kernel modules": lambda app: (
        -int(bool(_PRIVILEGES & set(app.get("privileged", ())) or app.get("kernel_modules")))
    ),
    "role at the Supervisor": lambda app: _ROLES.get(app.get("hassio_role", "default"), 0),
    "network of the host": lambda app: -int(bool(app.get("host_network"))),
    "processes of the host": lambda app: -2 * int(bool(app.get("host_pid"))),
    "name of the host": lambda app: -int(bool(app.get("host_uts")) and "SYS_ADMIN" in app.get("privileged", ())),
}


def rating(app: Config, profile: str | None) -> tuple[int, dict[str, int]]:
    """Return the rating, and what each part adds; ``profile``: the text of ``apparmor.txt``, None if there is none."""
    parts = {"AppArmor profile": _apparmor(app, profile)} | {name: part_fn(app) for name, part_fn in _PARTS.items()}
    total = min(BEST, max(_LEAST, _BEGINNING + sum(parts.values())))
    return (_LEAST if app.get("docker_api") or app.get("full_access") else total), parts


def _apparmor(app: Config, profile: str | None) -> int:
    """Return 1 for a profile of one's own (one, named at the beginning of a line, else the install fails)."""
    if not app.get("apparmor", True):
        return -1
    return int(profile is not None and len(set(_PROFILE.findall(profile))) == 1)


def main() -> int:
    """Print the rating of the app in this repository; return 1 if it could be better."""
    folder = Path(__file__).resolve().parents[2] / "addon"
    profile = folder / "apparmor.txt"
    app = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    found, parts = rating(app, profile.read_text("utf-8") if profile.exists() else None)
    print(f"security rating {found} of {BEST}: {_BEGINNING} to begin with")
    for name, value in parts.items():
        print(f"  {value:+d} {name}")
    return int(found < BEST)


if __name__ == "__main__":
    sys.exit(main())

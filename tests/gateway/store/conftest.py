"""Mounts file systems for tests; without root the test runs in a user namespace that may mount them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .parts import SyncCountingVfs

TOP = Path(__file__).parents[3]
WITHIN = 120

_IN_NAMESPACE = "PROCESS_COSMOS_TESTS_IN_NAMESPACE"
_HELP = (
    "mounting a file system needs root or unprivileged user namespaces: run as root, or enable them"
    " with `sysctl kernel.unprivileged_userns_clone=1` (Debian) or `sysctl"
    " kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu)"
)
_MAY_NOT_MOUNT = pytest.StashKey[bool]()


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 48 MB; without the right to mount, the test runs in a child process that has it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=48m", "tmpfs", str(disk)]
    if mount is None or subprocess.run([mount, *options], check=False, capture_output=True).returncode:
        if _IN_NAMESPACE in os.environ:
            raise RuntimeError("the namespace may not mount a file system")
        request.node.stash[_MAY_NOT_MOUNT] = True
        yield disk
        return
    yield disk
    subprocess.run([str(shutil.which("umount")), str(disk)], check=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test whose file system could not be mounted in a user namespace; skip it if there are none."""
    if not pyfuncitem.stash.get(_MAY_NOT_MOUNT, False):
        return None
    unshare = shutil.which("unshare")
    namespace = [str(unshare), "--user", "--map-root-user", "--mount"]
    mount = ["mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if unshare is None or subprocess.run([*namespace, *mount], check=False, capture_output=True).returncode:
        pytest.skip(_HELP)
    base = Path(str(pyfuncitem.funcargs["tmp_path"])) / "child"
    pytest_options = ["-p", "no:homeassistant", "-p", "no:cacheprovider", "-q", "--basetemp", str(base)]
    done = subprocess.run(
        [*namespace, sys.executable, "-m", "pytest", *pytest_options, pyfuncitem.nodeid],
        cwd=TOP,
        env={**os.environ, _IN_NAMESPACE: "1"},
        timeout=WITHIN,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.fail(done.stdout + done.stderr)
    return True


@pytest.fixture
def vfs() -> Iterator[SyncCountingVfs]:
    """A disk that counts how often it is asked to sync."""
    vfs = SyncCountingVfs("sync_counting")
    yield vfs
    vfs.unregister()

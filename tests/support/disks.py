"""A full disk, in place of a function that writes."""

import errno
import os
from typing import NoReturn


def disk_full(*_: object) -> NoReturn:
    """Fail as a write to a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

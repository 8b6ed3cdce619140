"""The app's program, told where the Supervisor is: python -m tests.support.supervisor.app_process URL OPTIONS."""

import asyncio
import sys
from functools import partial
from pathlib import Path

from process_cosmos_gateway import app
from process_cosmos_gateway.logs import set_up_logs
from process_cosmos_gateway.options import read_options
from process_cosmos_gateway.supervisor import Supervisor


def main(url: str, file: Path) -> None:
    """Run the app until it is told to end."""
    options = read_options(file)
    set_up_logs(options.log_level)
    # Its container's name would lead to it in the Supervisor's network only.
    vars(app)["gethostname"] = lambda: options.host
    asyncio.run(app.run(options, partial(Supervisor, url=url)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

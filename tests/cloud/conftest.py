"""Fixtures: an endpoint in this process, so that its coverage is measured, and an enrolled site."""

from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from process_cosmos_cloud.codes import make_code
from process_cosmos_cloud.database import open_database
from process_cosmos_cloud.serving import DATABASE, serving
from process_cosmos_gateway.contract.pairing import OneTimeLine

from .endpoint import Site, key_sha256

SITE = "01K8J5Z0000000000000000001"
OTHER = "01K8J5Z0000000000000000002"
NOW = 1_795_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cloud"


@pytest.fixture
async def url(folder: Path) -> AsyncIterator[str]:
    folder.mkdir()
    async with serving(folder, "127.0.0.1", 0, ["127.0.0.1", "localhost"]) as url:
        yield url


@pytest.fixture
def connection(url: str, folder: Path) -> apsw.Connection:
    """A second connection to the endpoint's database."""
    return open_database(folder / DATABASE)


def new_code(folder: Path, url: str, site: str | None = None) -> str:
    """Return a one-time code that does not expire during the tests."""
    with open_database(folder / DATABASE) as connection:
        secret = make_code(connection, 4e9, site)
    return str(OneTimeLine(url=url, secret=secret, sha256=key_sha256((folder / "ca.pem").read_text())))


@pytest.fixture
async def site(url: str, folder: Path) -> Site:
    """An enrolled site."""
    site = Site.new(SITE, url)
    status, _ = await site.enrol(new_code(folder, url))
    assert status == 200
    return site

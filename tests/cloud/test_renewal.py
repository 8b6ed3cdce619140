"""Renewal of certificates and rotation of the CA."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509

from process_cosmos_cloud import ca
from process_cosmos_cloud.authority import GRACE_DAYS, Authority
from process_cosmos_cloud.ca import TRUST_DAYS, rotate
from process_cosmos_cloud.serving import serving
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.private_files import write_private

from .conftest import OTHER, SITE, new_code
from .endpoint import Site, altered, event, key_sha256, run_command

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def expired(site: Site, folder: Path, days: int) -> Site:
    """Return the site with a certificate that expired ``days`` ago."""
    then = datetime.now(UTC) - timedelta(days=365 + days)
    old = site.copy()
    old.certificate = Authority(folder, now_fn=lambda: then).issue(site.request(), Ulid(site.site)).certificate
    return old


async def test_a_renewed_certificate_is_for_a_new_key_and_for_the_same_site(site: Site) -> None:
    old = site.copy()
    await site.send([event(1, SITE)])

    status, _ = await site.renew()

    assert status == 200
    assert site.key != old.key
    assert await site.send([event(2, SITE)]) == ["accepted"]


async def test_a_certificate_expired_while_offline_allows_only_a_renewal(site: Site, folder: Path) -> None:
    late = expired(site, folder, GRACE_DAYS - 1)
    with pytest.raises(aiohttp.ClientError):
        await late.send([event(1, SITE)])

    status, _ = await late.renew()

    assert status == 200
    assert await late.send([event(1, SITE)]) == ["accepted"]


async def test_a_certificate_expired_for_too_long_is_not_renewed(site: Site, folder: Path) -> None:
    status, problem = await expired(site, folder, GRACE_DAYS + 1).renew()
    assert (status, problem["code"]) == (403, "certificate_expired")
    assert "new code" in problem["detail"]


async def test_a_renewal_without_the_old_key_is_refused(site: Site, url: str) -> None:
    thief = Site.new(SITE, url)
    thief.certificate, thief.ca = site.certificate, site.ca
    status, problem = await thief.renew()
    assert (status, problem["code"]) == (400, "malformed")


async def test_a_certificate_of_another_ca_is_not_renewed(site: Site, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    stranger = site.copy()
    stranger.certificate = Authority(tmp_path / "elsewhere").issue(site.request(), Ulid(SITE)).certificate
    status, problem = await stranger.renew()
    assert (status, problem["code"]) == (400, "malformed")


async def test_the_endpoints_own_certificate_cannot_be_renewed(site: Site, folder: Path) -> None:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - used only here

    own = site.copy()
    text = (folder / "server.pem").read_bytes()
    key = serialization.load_pem_private_key(text, None)
    own.key, own.certificate = key, ca.pem(x509.load_pem_x509_certificates(text)[0]).decode()  # type: ignore[assignment] # an elliptic curve key
    status, problem = await own.renew()
    assert (status, problem["code"]) == (400, "malformed")


@pytest.mark.parametrize(
    "changes", [{"certificate": "none"}, {"csr": "none"}, {"proof": "00"}, {"proof": "no digits"}], ids=str
)
async def test_an_invalid_renewal_is_malformed(site: Site, changes: dict[str, str]) -> None:
    status, problem = await site.renew(**changes)
    assert (status, problem["code"]) == (400, "malformed")


async def test_a_certificate_of_an_unknown_version_is_malformed(site: Site) -> None:
    status, problem = await site.renew(certificate=altered(site.certificate, "a003020102", "a003020109"))
    assert (status, problem["code"]) == (400, "malformed")


async def test_sites_verify_a_new_ca_through_the_old_one_and_get_it_by_renewal(folder: Path) -> None:
    folder.mkdir()
    async with serving(folder, "127.0.0.1", 0, ["127.0.0.1"]) as url:
        site = Site.new(SITE, url)
        await site.enrol(new_code(folder, url))
    first = Authority(folder).sha256

    said = await run_command(folder, "rotate-ca")

    second = Authority(folder).sha256
    assert said.startswith(f"{first} was replaced by {second}")
    async with serving(folder, "127.0.0.1", 0, ["127.0.0.1"]) as url:
        site.url = url
        assert await site.send([event(1, SITE)]) == ["accepted"]
        await site.renew()
        assert key_sha256(site.ca) == second
        assert await site.send([event(2, SITE)]) == ["accepted"]
        fresh = Site.new(OTHER, url)
        await fresh.enrol(new_code(folder, url))
        assert await fresh.send([event(1, OTHER)]) == ["accepted"]


async def test_a_ca_may_be_rotated_twice_while_it_is_trusted(folder: Path) -> None:
    folder.mkdir()
    async with serving(folder, "127.0.0.1", 0, ["127.0.0.1"]) as url:
        site = Site.new(SITE, url)
        await site.enrol(new_code(folder, url))
    rotate(folder, datetime.now(UTC))
    rotate(folder, datetime.now(UTC))
    async with serving(folder, "127.0.0.1", 0, ["127.0.0.1"]) as url:
        site.url = url
        assert await site.send([event(1, SITE)]) == ["accepted"]


async def test_certificates_of_a_ca_no_longer_trusted_are_refused(folder: Path) -> None:
    folder.mkdir()
    async with serving(folder, "127.0.0.1", 0, ["127.0.0.1"]) as url:
        site = Site.new(SITE, url)
        await site.enrol(new_code(folder, url))
    await run_command(folder, "rotate-ca", "--days", "0")
    async with serving(folder, "127.0.0.1", 0, ["127.0.0.1"]) as url:
        site.url = url
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await site.send([event(1, SITE)])
        site.ca = Authority(folder).pem
        with pytest.raises(aiohttp.ClientError):
            await site.send([event(1, SITE)])


def test_an_old_ca_is_trusted_until_its_last_certificate_can_no_longer_be_renewed(folder: Path) -> None:
    folder.mkdir()
    old = Authority(folder, now_fn=lambda: NOW)
    site = Site.new(SITE, "")
    certificate = old.issue(site.request(), Ulid(SITE)).certificate
    rotate(folder, NOW)
    last = x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc + timedelta(days=GRACE_DAYS)
    assert len(ca.load_ca(folder, last - timedelta(seconds=1)).previous) == 1
    assert ca.load_ca(folder, NOW + timedelta(days=TRUST_DAYS + 1)).previous == []


@pytest.mark.parametrize("step", range(4))
def test_an_interrupted_rotation_leaves_one_working_ca(
    folder: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    before = Authority(folder).sha256
    written = 0

    def cut(file: Path, content: bytes) -> None:
        nonlocal written
        if written == step:
            raise KeyboardInterrupt
        written += 1
        write_private(file, content)

    monkeypatch.setattr("process_cosmos_cloud.ca.write_private", cut)
    with pytest.raises(KeyboardInterrupt):
        rotate(folder, datetime.now(UTC))
    monkeypatch.undo()

    after = Authority(folder)

    assert (after.sha256 == before) == (step == 0)
    context = after.server_context(["127.0.0.1"])
    assert isinstance(context, ssl.SSLContext)
    assert len(context.get_ca_certs()) == (1 if step == 0 else 2)
    assert not (folder / ca.NEXT).exists()


def test_the_key_of_the_old_ca_is_deleted(folder: Path) -> None:
    folder.mkdir()
    Authority(folder)
    key = (folder / ca.KEY).read_bytes()
    rotate(folder, datetime.now(UTC))
    assert all(key not in file.read_bytes() for file in folder.iterdir())
    assert all(file.stat().st_mode & 0o077 == 0 for file in folder.iterdir())


@pytest.mark.parametrize("name", [ca.CERTIFICATE, ca.PREVIOUS, ca.NEXT])
def test_a_ca_is_not_created_again_if_its_existence_is_unknown(tmp_path: Path, name: str) -> None:
    Authority(tmp_path)
    rotate(tmp_path, NOW)
    (tmp_path / name).unlink(missing_ok=True)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    (tmp_path / name).symlink_to(name)  # a symbolic link to itself
    with pytest.raises(OSError, match="symbolic links"):
        Authority(tmp_path)
    (tmp_path / name).unlink()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before

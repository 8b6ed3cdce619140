"""Enrolment with one-time codes and certificates."""

import ssl
from pathlib import Path

import aiohttp
import apsw
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from process_cosmos_cloud.codes import VALID_SECONDS, make_code, spend_code
from process_cosmos_cloud.problems import RefusedError
from process_cosmos_cloud.serving import serving
from process_cosmos_gateway.contract.identifiers import Ulid

from .conftest import NOW, OTHER, SITE, new_code
from .endpoint import Site, altered, event, key_sha256


async def test_a_code_enrols_one_site_only_once(url: str, folder: Path) -> None:
    code = new_code(folder, url)
    first, second = Site.new(SITE, url), Site.new(OTHER, url)
    status, reply = await first.enrol(code)
    assert status == 200
    assert await first.send([event(1, SITE)]) == ["accepted"]
    assert key_sha256(reply["ca"]) in code

    status, problem = await second.enrol(code)

    assert (status, problem["code"]) == (403, "enrolment_refused")
    assert "used before" in problem["detail"]


async def test_an_unknown_code_is_refused_as_problem_details(url: str, folder: Path) -> None:
    status, problem = await Site.new(SITE, url).enrol(new_code(folder, url), secret="never-made-anywhere")

    assert status == 403
    assert problem == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "This one-time code is not known to this endpoint. Check that it is complete, or ask for a new one.",
        "code": "enrolment_refused",
    }


def test_a_code_expires_after_a_day(connection: apsw.Connection) -> None:
    secret = make_code(connection, NOW)

    with pytest.raises(RefusedError, match="expired"):
        spend_code(connection, secret, Ulid(SITE), NOW + VALID_SECONDS + 1)

    spend_code(connection, secret, Ulid(SITE), NOW + VALID_SECONDS)


async def test_a_code_for_one_site_is_refused_for_another(url: str, folder: Path) -> None:
    status, problem = await Site.new(OTHER, url).enrol(new_code(folder, url, site=SITE))

    assert (status, problem["code"]) == (403, "enrolment_refused")


async def test_an_enrolled_site_can_only_be_replaced_with_a_code_made_for_it(
    site: Site, url: str, folder: Path
) -> None:
    impostor = Site.new(site.site, url)
    status, problem = await impostor.enrol(new_code(folder, url))
    assert status == 403
    assert "enrolled already" in problem["detail"]

    status, _ = await impostor.enrol(new_code(folder, url, site=site.site))

    assert status == 200


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("06082a8648ce3d030107", "06082a8648ce3d030177", id="curve"),
        pytest.param("06072a8648ce3d0201", "06072a8648ce3d0277", id="kind of key"),
        pytest.param("06082a8648ce3d040302", "06082a8648ce3d040377", id="kind of signature"),
        pytest.param("020100", "020109", id="version"),
    ],
)
async def test_a_certificate_request_with_an_unknown_algorithm_is_malformed(
    url: str, folder: Path, old: str, new: str
) -> None:
    site, code = Site.new(SITE, url), new_code(folder, url)
    status, problem = await site.enrol(code, csr=altered(site.request(), old, new))
    assert (status, problem["code"]) == (400, "malformed")
    assert (await site.enrol(code))[0] == 200


@pytest.mark.parametrize("csr", ["", "no request", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END"])
async def test_an_invalid_certificate_request_does_not_use_up_the_code(url: str, folder: Path, csr: str) -> None:
    site, code = Site.new(SITE, url), new_code(folder, url)
    status, problem = await site.enrol(code, csr=csr)
    assert (status, problem["code"]) == (400, "malformed")

    status, _ = await site.enrol(code)

    assert status == 200


async def test_only_the_key_of_a_certificate_request_is_used(url: str, folder: Path) -> None:
    site = Site.new(SITE, url)

    await site.enrol(new_code(folder, url), csr=site.request(name=OTHER))

    [name] = x509.load_pem_x509_certificate(site.certificate.encode()).subject.get_attributes_for_oid(
        NameOID.COMMON_NAME
    )
    assert name.value == SITE


async def test_a_sites_certificate_cannot_pass_as_the_endpoints(site: Site) -> None:
    usage = x509.load_pem_x509_certificate(site.certificate.encode()).extensions.get_extension_for_class(
        x509.ExtendedKeyUsage
    )
    assert [oid.dotted_string for oid in usage.value] == ["1.3.6.1.5.5.7.3.2"]


async def test_the_ca_survives_a_restart_and_so_do_the_sites(folder: Path) -> None:
    folder.mkdir()
    async with serving(folder, "127.0.0.1", 0, ["127.0.0.1"]) as url:
        site = Site.new(SITE, url)
        await site.enrol(new_code(folder, url))
    async with serving(folder, "127.0.0.1", 0, ["127.0.0.1"]) as url:
        site.url = url
        assert await site.send([event(1, SITE)]) == ["accepted"]


async def test_nothing_but_health_and_enrolment_answers_without_a_certificate(site: Site) -> None:
    anybody = ssl.create_default_context(cadata=site.ca)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=anybody)) as session:
        for method, path, expected in (
            ("GET", "/health", 200),
            ("POST", "/v1/events", 401),
            ("GET", "/v1/inbox", 401),
            ("GET", "/elsewhere", 401),
        ):
            async with session.request(method, site.url + path) as response:
                assert response.status == expected


async def test_a_certificate_of_another_ca_fails_the_handshake(site: Site, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    async with serving(tmp_path / "elsewhere", "127.0.0.1", 0, ["127.0.0.1"]) as url:
        stranger = Site.new(SITE, url)
        await stranger.enrol(new_code(tmp_path / "elsewhere", url))
    stranger.url, stranger.ca = site.url, site.ca

    with pytest.raises(aiohttp.ClientError):
        await stranger.send([event(1, SITE)])

    assert await site.send([event(1, SITE)]) == ["accepted"]


def test_only_the_owner_may_read_the_keys(connection: apsw.Connection, folder: Path) -> None:
    assert connection is not None
    for name in ("ca.key", "server.pem"):
        assert (folder / name).stat().st_mode & 0o077 == 0

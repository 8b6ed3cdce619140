"""Status page of the app: access, texts, pairing lines and tokens."""

import base64
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from html import escape, unescape
from pathlib import Path

import pytest

from process_cosmos_gateway.api.ingress.html import STYLE
from process_cosmos_gateway.api.ingress.page import INGRESS_PEER
from process_cosmos_gateway.api.ingress.wording import reason
from process_cosmos_gateway.api.local_programs.tokens import read_tokens
from process_cosmos_gateway.api.session import Limits
from process_cosmos_gateway.contract.destinations import LinkState, Priority, Recovered, StorageState, Waiting
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.pairing import parse_pairing_line
from process_cosmos_gateway.options import BrokerOptions
from tests.support.waiting import until

from .facts import CLOUD, WELL, FakeStatus, page_of
from .link import SECONDS
from .services import SITE, ServerHarness, serving

NONSENSE = "<script>alert('x')</script>\" onload=\"x"


@dataclass
class PageClient:
    """Client of the status page behind the Supervisor, with the fakes that the page shows."""

    server: ServerHarness
    status: FakeStatus
    folder: Path

    async def get(self, **headers: str) -> str:
        async with self.server.http.get(f"{self.server.url}/", headers=headers) as reply:
            assert reply.status == 200
            return await reply.text()

    async def make_line(self) -> str:
        async with self.server.http.post(f"{self.server.url}/pair") as reply:
            assert reply.status == 200
            found = re.search(r"<code>(.*)</code>", await reply.text())
        assert found
        return unescape(found[1])

    async def programs(self, status: int, **request: str) -> str:
        """Get the page of programs, or post one of its forms."""
        method = "POST" if request else "GET"
        async with self.server.http.request(method, f"{self.server.url}/programs", data=request) as reply:
            assert reply.status == status
            return await reply.text()


@pytest.fixture
def broker() -> BrokerOptions | None:
    return BrokerOptions(host="core-mosquitto")


@pytest.fixture
def peer() -> str:
    return "127.0.0.1"


@pytest.fixture
async def page(
    tmp_path: Path, unused_tcp_port: int, broker: BrokerOptions | None, peer: str
) -> AsyncIterator[PageClient]:
    status = FakeStatus()
    status_page = page_of(status, tmp_path, unused_tcp_port, broker, peer)
    limits = Limits(hello=SECONDS, silence=SECONDS, caught_up=SECONDS, heartbeat=0.05, status=SECONDS)
    async with serving(tmp_path, unused_tcp_port, limits, status_page) as server:
        yield PageClient(server, status, tmp_path)


@pytest.mark.parametrize("peer", [INGRESS_PEER])
@pytest.mark.parametrize("forged", [{}, {"X-Forwarded-For": INGRESS_PEER, "X-Ingress-Path": "/api/hassio_ingress/x"}])
async def test_only_the_supervisor_is_served_whatever_a_client_claims(page: PageClient, forged: dict[str, str]) -> None:
    offers = set(page.folder.iterdir())
    for method, path in (("GET", "/"), ("POST", "/pair"), ("GET", "/programs"), ("POST", "/programs?make=x")):
        async with page.server.http.request(method, f"{page.server.url}{path}", headers=forged) as reply:
            assert reply.status == 403
            assert (await reply.json())["code"] == Code.UNAUTHORIZED
    assert set(page.folder.iterdir()) == offers


async def test_it_shows_the_site_and_whether_home_assistant_is_connected(page: PageClient) -> None:
    before = await page.get()
    assert f"Version 9.8.7, site {SITE}" in before
    assert "not connected" in before
    link = await page.server.open()
    assert "not connected" not in await page.get()
    await link.socket.close()
    await until(lambda: "closed" in page.server.alerts.calls)
    assert "not connected" in await page.get()


async def test_it_shows_the_state_of_each_destination_and_what_to_do(page: PageClient) -> None:
    away = replace(CLOUD, name="Hook", state=LinkState.OFFLINE, reason="timeout", last_contact_age=7300.0)
    wrong = replace(CLOUD, name="Old", state=LinkState.REFUSED, reason="http_404", last_contact_age=None)
    page.status.status = replace(WELL, links=(CLOUD, away, wrong))
    text = unescape(await page.get())
    assert "https://cloud.example, last contact less than a minute ago." in text
    assert (
        "last contact 2 hours ago. The server does not respond in time. Check the internet connection. (timeout)"
        in text
    )
    assert (
        "no contact yet. Nothing was found at this address. Correct the address in the integration. (http_404)" in text
    )


async def test_it_shows_what_waits_and_since_when(page: PageClient) -> None:
    page.status.status = replace(
        WELL, waiting=Waiting(urgent=1, reading=1_234_567), rejected=2, full=(Priority.READING,)
    )
    page.status.ages = {Priority.URGENT: 59.0, Priority.READING: 200_000.0}
    text = await page.get()
    assert re.findall(r"<td>([\d,]+)(?:<div class=\"soft\">oldest: ([^<]*) ago)?", text) == [
        ("1", "less than a minute"),
        ("0", ""),
        ("1,234,567", "2 days"),
        ("2", ""),
        ("0", ""),
    ]
    assert "No space is left for: Readings." in text
    assert "Settings, Repairs" in text


async def test_it_shows_problems_of_the_machine(page: PageClient) -> None:
    found = Recovered(kept=12, lost=3, at=datetime(2026, 11, 23, tzinfo=UTC))
    page.status.status = replace(
        WELL, broker_connected=False, storage=StorageState.READ_ONLY, recovered=found, identity_conflict=True
    )
    text = unescape(await page.get())
    assert "core-mosquitto:1883 cannot be reached or refuses the login." in text
    assert "read only" in text
    assert "damaged or deleted on 2026-11-23: 12 rows were kept, at most 3 were lost" in text
    assert "Two apps use this site's identity." in text


@pytest.mark.parametrize("broker", [None])
async def test_without_a_broker_it_explains_how_to_install_one(page: PageClient) -> None:
    assert "install the Mosquitto broker app" in await page.get()


async def test_a_store_that_cannot_be_read_is_shown(page: PageClient) -> None:
    page.status.broken = True
    async with page.server.http.get(f"{page.server.url}/") as reply:
        assert reply.status == 503
        assert "The disk reports errors." in await reply.text()


async def test_external_text_is_escaped(page: PageClient) -> None:
    bad = replace(CLOUD, name=NONSENSE, address=NONSENSE, state=LinkState.REFUSED, reason=NONSENSE)
    page.status.status = replace(WELL, links=(bad,))
    text = await page.get(**{"X-Ingress-Path": f'/api/"><script>{"x" * 9}'})
    assert text.count(escape(NONSENSE)) == 3
    assert "<script" not in text
    assert "<base" not in text


async def test_it_needs_no_script_and_loads_nothing(page: PageClient) -> None:
    async with page.server.http.get(f"{page.server.url}/") as reply:
        text = await reply.text()
        policy = reply.headers["Content-Security-Policy"]
        assert reply.headers["Cache-Control"] == "no-store"
    (style,) = re.findall(r"<style>(.*)</style>", text, re.DOTALL)
    digest = base64.b64encode(sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "unsafe" not in policy
    assert re.findall(r"\b(?:src|href|action|content)=\"([^\"]*)\"", text) == [
        "15",
        "width=device-width, initial-scale=1",
        "pair",
        "programs",
    ]


async def test_its_links_are_relative_to_the_ingress_path(page: PageClient) -> None:
    text = await page.get(**{"X-Ingress-Path": "/api/hassio_ingress/Zm9v_b-r"})
    assert '<base href="/api/hassio_ingress/Zm9v_b-r/">' in text


async def test_its_pairing_line_pairs_once_and_viewing_makes_none(page: PageClient) -> None:
    await page.get()
    assert not (page.folder / "pairing.json").exists()
    line = parse_pairing_line(await page.make_line())
    assert (line.url, line.sha256) == (page.server.url, None)
    request = {"secret": line.secret, "instance": "home"}
    async with page.server.http.post(f"{line.url}/v1/pair", json=request) as reply:
        assert reply.status == 200
        page.server.token = (await reply.json())["token"]
    async with page.server.http.post(f"{line.url}/v1/pair", json=request) as reply:
        assert reply.status == 403
    await page.server.open()


def test_every_documented_reason_has_a_text() -> None:
    document = (Path(__file__).parents[3] / "docs/errors.md").read_text()
    table = document.partition("## Why a link is offline or refused")[2].partition("\n## ")[0]
    codes = [
        code
        for row in table.splitlines()
        if row.startswith("| `")
        for code in re.findall(r"`(\w+)`", row[: row.index("|", 2)])
    ]
    assert {"untried", "http_404", "http_5xx", "identity_conflict"} <= set(codes)
    assert [code for code in codes if not reason(code)] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_colours_contrast_with_the_background(scheme: str) -> None:
    light, dark = (dict(re.findall(r"--(\w+): (#\w+)", part)) for part in STYLE.split("@media"))
    colours = {name: luminance(colour) for name, colour in (light if scheme == "light" else dark).items()}
    for name in ("text", "soft", "good", "busy", "bad", "link"):
        for behind in ("back", "card"):
            low, high = sorted((colours[name], colours[behind]))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (name, behind)


def luminance(colour: str) -> float:
    """Return the relative luminance (WCAG 2.2) of ``#rgb`` or ``#rrggbb``."""
    digits = colour.removeprefix("#")
    full = digits if len(digits) == 6 else "".join(digit * 2 for digit in digits)
    parts = [int(full[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


async def test_tokens_of_programs_are_shown_once_and_can_be_revoked(page: PageClient) -> None:
    assert "Programs with a token: none." in await page.get()
    made = await page.programs(200, make="prometheus")
    found = re.search(r"<code>(.*)</code>", made)
    assert found
    token = unescape(found[1])
    assert read_tokens(page.folder).is_known(token)
    assert "Programs with a token: prometheus." in await page.get()
    listed = await page.programs(200)
    assert "since" in listed
    assert token not in listed
    assert "already has a token" in await page.programs(400, make="prometheus")
    assert "No program has a token" in await page.programs(200, revoke="prometheus")
    assert not read_tokens(page.folder).is_known(token)


async def test_tokens_that_cannot_be_read_are_not_shown_as_none(page: PageClient) -> None:
    (page.folder / "programs").symlink_to("programs")  # a link to itself cannot be read
    assert "Programs with a token: unknown" in await page.get()
    text = await page.programs(400)
    assert "The tokens of local programs cannot be read" in text
    assert "No program has a token" not in text


@pytest.mark.parametrize("form", [{"make": NONSENSE}, {"revoke": "../pairing"}, {"revoke": "nobody"}])
async def test_an_invalid_program_name_is_refused_with_a_message(page: PageClient, form: dict[str, str]) -> None:
    before = set(page.folder.rglob("*"))
    text = await page.programs(400, **form)
    assert 'class="bad"' in text
    assert "<script" not in text
    assert set(page.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example", "X-Forwarded-Host": "home.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://home.example"}, 200),
        ({"Origin": "https://home.example", "X-Forwarded-Host": "home.example"}, 200),
        ({}, 200),
    ],
)
async def test_a_form_sent_by_another_sites_page_has_no_effect(
    page: PageClient, headers: dict[str, str], status: int
) -> None:
    for path in ("pair", "programs"):
        async with page.server.http.post(f"{page.server.url}/{path}", headers=headers, data={"make": "evil"}) as reply:
            assert reply.status == status
    assert (page.folder / "programs/evil.json").exists() == (page.folder / "pairing.json").exists() == (status == 200)

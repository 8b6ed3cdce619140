"""The page Home Assistant shows of the app: who sees it, what it says, and the pairing line it gives."""

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
from process_cosmos_gateway.api.local_programs.tokens import is_known
from process_cosmos_gateway.api.session import Limits
from process_cosmos_gateway.contract.destinations import LinkState, Priority, Recovered, StorageState, Waiting
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.pairing import parse_pairing_line
from process_cosmos_gateway.options import BrokerOptions

from .facts import CLOUD, WELL, Owners, page_of
from .link import SECONDS
from .services import SITE, House, serving

NONSENSE = "<script>alert('x')</script>\" onload=\"x"


@dataclass
class Desk:
    """The server, what it shows, and how somebody behind the Supervisor sees it."""

    house: House
    owners: Owners
    folder: Path

    async def look(self, **headers: str) -> str:
        async with self.house.http.get(f"{self.house.url}/", headers=headers) as reply:
            assert reply.status == 200
            return await reply.text()

    async def ask_for_a_line(self) -> str:
        async with self.house.http.post(f"{self.house.url}/pair") as reply:
            assert reply.status == 200
            found = re.search(r"<code>(.*)</code>", await reply.text())
        assert found
        return unescape(found[1])

    async def ask_about_programs(self, status: int, **request: str) -> str:
        """See the page of programs, or send one of its forms."""
        method = "POST" if request else "GET"
        async with self.house.http.request(method, f"{self.house.url}/programs", data=request) as reply:
            assert reply.status == status
            return await reply.text()


@pytest.fixture
def broker() -> BrokerOptions | None:
    return BrokerOptions(host="core-mosquitto")


@pytest.fixture
def peer() -> str:
    return "127.0.0.1"


@pytest.fixture
async def desk(tmp_path: Path, unused_tcp_port: int, broker: BrokerOptions | None, peer: str) -> AsyncIterator[Desk]:
    owners = Owners()
    page = page_of(owners, tmp_path, unused_tcp_port, broker, peer)
    limits = Limits(hello=SECONDS, silence=SECONDS, caught_up=SECONDS, receipt=0.05, status=SECONDS)
    async with serving(tmp_path, unused_tcp_port, limits, page) as house:
        yield Desk(house, owners, tmp_path)


@pytest.mark.parametrize("peer", [INGRESS_PEER])
@pytest.mark.parametrize("forged", [{}, {"X-Forwarded-For": INGRESS_PEER, "X-Ingress-Path": "/api/hassio_ingress/x"}])
async def test_nobody_but_the_supervisor_sees_it_whatever_he_claims(desk: Desk, forged: dict[str, str]) -> None:
    offers = set(desk.folder.iterdir())
    for method, path in (("GET", "/"), ("POST", "/pair"), ("GET", "/programs"), ("POST", "/programs?make=x")):
        async with desk.house.http.request(method, f"{desk.house.url}{path}", headers=forged) as reply:
            assert reply.status == 403
            assert (await reply.json())["code"] == Code.UNAUTHORIZED
    assert set(desk.folder.iterdir()) == offers


async def test_it_says_whose_it_is_and_whether_home_assistant_is_there(desk: Desk) -> None:
    before = await desk.look()
    assert f"Version 0.1.0, site {SITE}" in before
    assert "not connected" in before
    link = await desk.house.open()
    assert "not connected" not in await desk.look()
    await link.socket.close()
    await desk.house.until(lambda: "closed" in desk.house.alerts.heard)
    assert "not connected" in await desk.look()


async def test_it_says_of_each_destination_how_it_is_and_what_to_do(desk: Desk) -> None:
    away = replace(CLOUD, name="Hook", state=LinkState.OFFLINE, reason="timeout", last_contact_age=7300.0)
    wrong = replace(CLOUD, name="Old", state=LinkState.REFUSED, reason="http_404", last_contact_age=None)
    desk.owners.status = replace(WELL, links=(CLOUD, away, wrong))
    text = unescape(await desk.look())
    assert "https://cloud.example, last contact less than a minute ago." in text
    assert "last contact 2 hours ago. It does not answer in time. Look at the internet connection. (timeout)" in text
    assert "no contact yet. Nothing is at its address. Correct the address in the integration. (http_404)" in text


async def test_it_says_what_waits_and_since_when(desk: Desk) -> None:
    desk.owners.status = replace(
        WELL, waiting=Waiting(urgent=1, reading=1_234_567), rejected=2, full=(Priority.READING,)
    )
    desk.owners.ages = {Priority.URGENT: 59.0, Priority.READING: 200_000.0}
    text = await desk.look()
    assert re.findall(r"<td>([\d,]+)(?:<div class=\"soft\">the oldest for ([^<]*))?", text) == [
        ("1", "less than a minute"),
        ("0", ""),
        ("1,234,567", "2 days"),
        ("2", ""),
        ("0", ""),
    ]
    assert "No room is left for: Readings." in text
    assert "Settings, Repairs" in text


async def test_it_says_what_is_wrong_with_the_machine(desk: Desk) -> None:
    found = Recovered(kept=12, lost=3, at=datetime(2026, 11, 23, tzinfo=UTC))
    desk.owners.status = replace(
        WELL, broker_connected=False, storage=StorageState.READ_ONLY, recovered=found, identity_conflict=True
    )
    text = await desk.look()
    assert "core-mosquitto:1883 does not let this app in or cannot be reached." in text
    assert "read only" in text
    assert "damaged or deleted on 2026-11-23: 12 rows were kept, at most 3 were lost" in text
    assert "Two apps speak as this site." in text


@pytest.mark.parametrize("broker", [None])
async def test_without_a_broker_it_says_how_to_get_one(desk: Desk) -> None:
    assert "install the Mosquitto broker app" in await desk.look()


async def test_a_store_that_cannot_be_read_is_said_too(desk: Desk) -> None:
    desk.owners.broken = True
    async with desk.house.http.get(f"{desk.house.url}/") as reply:
        assert reply.status == 503
        assert "The disk reports errors." in await reply.text()


async def test_what_comes_from_elsewhere_is_text_and_nothing_else(desk: Desk) -> None:
    bad = replace(CLOUD, name=NONSENSE, address=NONSENSE, state=LinkState.REFUSED, reason=NONSENSE)
    desk.owners.status = replace(WELL, links=(bad,))
    text = await desk.look(**{"X-Ingress-Path": f'/api/"><script>{"x" * 9}'})
    assert text.count(escape(NONSENSE)) == 3
    assert "<script" not in text
    assert "<base" not in text


async def test_it_needs_no_script_and_loads_nothing(desk: Desk) -> None:
    async with desk.house.http.get(f"{desk.house.url}/") as reply:
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


async def test_its_links_begin_where_home_assistant_shows_it(desk: Desk) -> None:
    text = await desk.look(**{"X-Ingress-Path": "/api/hassio_ingress/Zm9v_b-r"})
    assert '<base href="/api/hassio_ingress/Zm9v_b-r/">' in text


async def test_its_pairing_line_pairs_once_and_looking_makes_none(desk: Desk) -> None:
    await desk.look()
    assert not (desk.folder / "pairing.json").exists()
    line = parse_pairing_line(await desk.ask_for_a_line())
    assert (line.url, line.sha256) == (desk.house.url, None)
    request = {"secret": line.secret, "instance": "home"}
    async with desk.house.http.post(f"{line.url}/v1/pair", json=request) as reply:
        assert reply.status == 200
        desk.house.token = (await reply.json())["token"]
    async with desk.house.http.post(f"{line.url}/v1/pair", json=request) as reply:
        assert reply.status == 403
    await desk.house.open()


def test_every_documented_reason_has_words() -> None:
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
def test_its_colours_can_be_told_from_the_background(scheme: str) -> None:
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


async def test_programs_get_tokens_there_which_are_shown_once_and_can_be_taken_back(desk: Desk) -> None:
    assert "With a token: none." in await desk.look()
    made = await desk.ask_about_programs(200, make="prometheus")
    found = re.search(r"<code>(.*)</code>", made)
    assert found
    token = unescape(found[1])
    assert is_known(desk.folder, token)
    assert "With a token: prometheus." in await desk.look()
    listed = await desk.ask_about_programs(200)
    assert "since" in listed
    assert token not in listed
    assert "has a token already" in await desk.ask_about_programs(400, make="prometheus")
    assert "No program has a token" in await desk.ask_about_programs(200, revoke="prometheus")
    assert not is_known(desk.folder, token)


async def test_tokens_that_cannot_be_read_are_not_shown_as_none(desk: Desk) -> None:
    (desk.folder / "programs").symlink_to("programs")  # it leads nowhere but to itself
    assert "With a token: unknown" in await desk.look()
    page = await desk.ask_about_programs(400)
    assert "The tokens of local programs cannot be read" in page
    assert "No program has a token" not in page


@pytest.mark.parametrize("form", [{"make": NONSENSE}, {"revoke": "../pairing"}, {"revoke": "nobody"}])
async def test_a_name_no_program_can_have_is_refused_with_a_sentence(desk: Desk, form: dict[str, str]) -> None:
    before = set(desk.folder.rglob("*"))
    page = await desk.ask_about_programs(400, **form)
    assert 'class="bad"' in page
    assert "<script" not in page
    assert set(desk.folder.rglob("*")) == before


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
async def test_a_form_that_another_sites_page_sends_does_nothing(
    desk: Desk, headers: dict[str, str], status: int
) -> None:
    for path in ("pair", "programs"):
        async with desk.house.http.post(f"{desk.house.url}/{path}", headers=headers, data={"make": "evil"}) as reply:
            assert reply.status == status
    assert (desk.folder / "programs/evil.json").exists() == (desk.folder / "pairing.json").exists() == (status == 200)

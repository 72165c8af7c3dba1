"""The token of the REST API: no route answers without it but those that say whether the service runs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import BaseRoute, Mount
from starlette.types import Message

from topostrata.archive import Archive, open_archive
from topostrata.errors import ConflictError
from topostrata.service.api.app import create_app
from topostrata.service.api.auth import Guard, is_open
from topostrata.service.tokens import TokenFile, digest_of
from topostrata.store.embedded import stop

TOKEN = "f8Jq2mX0-vT7_b3.nR5~kD1+wL9/cY6aZ4eH8sG="
BEARER = {"Authorization": f"Bearer {TOKEN}"}
OPEN = {"/healthz", "/readyz", "/", "/docs"}
METHODS = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """An empty archive."""
    directory = tmp_path_factory.mktemp("token") / "archive"
    with open_archive(str(directory)) as opened:
        yield opened
    stop(directory, force=True)


@pytest.fixture(scope="module")
def app(archive: Archive) -> FastAPI:
    """The API with a token."""
    app = create_app(archive=archive, guard=Guard(TOKEN), hosts=["archive.example.org"])
    app.state.archive = archive  # as a server does when it starts
    asyncio.run(app.state.watch.close())  # events would never end
    return app


class Client:
    """Requests to the app without a socket, by a name of this machine."""

    def __init__(self, app: FastAPI) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://localhost") as client:
                return await client.request(method, path, **more)

        return asyncio.run(ask())

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Client:
    """Requests to it."""
    return Client(app)


def walk(routes: Iterable[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of every route, those of included routers too; each path with values for its parameters."""
    for route in routes:
        if isinstance(route, Mount):  # the page's files
            continue
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from walk(inner.routes, prefix + route.include_context.prefix)  # type: ignore[attr-defined]
            continue
        path = prefix + route.path  # type: ignore[attr-defined]
        for method in sorted(route.methods):  # type: ignore[attr-defined]
            yield method, re.sub(r"{(\w+)}", lambda name: "0" if name[1] == "step" else "w0", path)


def test_every_route_needs_the_token(app: FastAPI, client: Client) -> None:
    """Each route and method of the app, and each method that it has not: 401 without the token, never with it."""
    routes = set(walk(app.routes))
    declared = {re.sub(r"{\w+}", "*", path) for path in app.openapi()["paths"]}
    walked = {re.sub(r"/(w0|0)(?=/|$)", "/*", path) for _, path in routes}
    assert declared <= walked, "the walk misses routes"
    assert len(routes) > 15
    for method, path in routes | {(method, path) for _, path in routes for method in METHODS}:
        for headers in ({}, {"Authorization": f"Bearer {TOKEN[:-2]}x="}):
            answer = client.request(method, path, headers=headers)
            assert (answer.status_code == 401) is (path not in OPEN), (method, path, answer.status_code)
        assert client.request(method, path, headers=BEARER).status_code not in {401, 403, 500}, (method, path)
    assert client.get("/v1/runs", headers=BEARER).json() == {"runs": [], "next": None}


def test_a_path_that_is_not_there_needs_it_too(client: Client) -> None:
    """Nobody learns what there is, and no way of writing an open path opens another."""
    for path in (
        "/v1",
        "/nowhere",
        "/openapi.json",
        "/metrics",
        "/docs/",
        "/healthz/",
        "/healthz/../v1/runs",
        "/HEALTHZ",
        "/page",
    ):
        assert client.get(path).status_code == 401, path
    for path in ("/page/../v1/runs", "/page/%2e%2e/v1/runs", "/page//v1/runs"):  # the page's files are open, no more
        assert client.get(path).status_code in {401, 404}, path
    assert client.get("/nowhere", headers=BEARER).status_code == 404
    assert client.get("/v1/runs?/healthz").status_code == 401
    assert Guard(TOKEN).refusal({"path": "//healthz", "headers": []}) is not None  # no client here sends two slashes


def test_the_refusal_says_what_is_missing_and_nothing_else(client: Client) -> None:
    """A problem document with a stable code, the scheme to use, and no word of the token that was shown."""
    answer = client.get("/v1/runs", headers={"Authorization": "Bearer something-else"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json()["code"] == "unauthorized"
    assert "found another" in answer.json()["detail"]
    assert "something-else" not in answer.text
    assert "found none" in client.get("/v1/runs").json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", TOKEN)],
        [("Authorization", f"Basic {TOKEN}")],
        [("Authorization", f"Bearer{TOKEN}")],
        [("Authorization", f"Bearer {TOKEN} {TOKEN}")],
        [("Authorization", f"Bearer {TOKEN},{TOKEN}")],
        [("Authorization", f"Bearer {TOKEN.lower()}")],
        [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer other")],
        [("Authorization", "Bearer ")],
        [("Authorization", "Bearer \xff\xfe")],
        [("Authorization", "")],
        [("Cookie", f"token={TOKEN}")],
        [("X-Api-Key", TOKEN)],
    ],
)
def test_only_a_bearer_header_with_the_whole_token_counts(client: Client, headers: list[tuple[str, str]]) -> None:
    """No other scheme, no other header, no part of the token, no two of them."""
    sent = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    assert client.get("/v1/runs", headers=sent).status_code == 401


def test_a_token_in_the_url_does_not_count(client: Client) -> None:
    """It would stand in logs and histories."""
    for name in ("token", "access_token", "authorization", "api_key"):
        assert client.get("/v1/runs", params={name: TOKEN}).status_code == 401
    assert client.get(f"http://x:{quote(TOKEN, safe='')}@localhost/v1/runs").status_code == 401


def test_the_scheme_is_written_as_one_likes(client: Client) -> None:
    """RFC 9110: its case says nothing."""
    for scheme in ("bearer", "BEARER"):
        assert client.get("/v1/runs", headers={"Authorization": f"{scheme} {TOKEN}"}).status_code == 200


def test_health_is_open_and_tells_nothing(client: Client) -> None:
    """What a health check needs, and not what the archive holds or where it is."""
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok", "archive": "ok"}


def test_nothing_of_a_request_is_read_before_the_token(app: FastAPI) -> None:
    """A stranger's body stays where it is."""
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was asked for")

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-length", b"1000"), (b"content-type", b"application/zip")]
    scope = {
        "type": "http",
        "method": "PUT",
        "path": "/v1/runs/w0/snapshots/0",
        "headers": headers,
        "query_string": b"",
    }
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 401


def test_no_other_protocol_passes_the_token_check(app: FastAPI) -> None:
    """A websocket is closed before it is one, with the token as well: nothing here speaks it."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {TOKEN}".encode())]
    asyncio.run(app({"type": "websocket", "path": "/healthz", "headers": headers}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_names_are_checked_with_a_token_too(client: Client) -> None:
    """A page elsewhere that points its own name here gets nothing, whatever it shows; a name that is set is answered."""
    for host, status in (
        ("elsewhere.example", 400),
        ("archive.example.org:8321", 200),
        ("localhost:1", 200),
        ("*", 400),
    ):
        assert client.get("/v1/runs", headers={**BEARER, "Host": host}).status_code == status, host
    assert client.get("/v1/runs", headers={"Host": "archive.example.org"}).status_code == 401
    assert client.get("/healthz", headers={"Host": "elsewhere.example"}).status_code == 400


def test_only_a_hash_of_the_token_is_kept() -> None:
    """Whoever reads the memory of the app does not find it there."""
    assert TOKEN not in repr(vars(Guard(TOKEN)))


def test_the_contract_names_the_scheme(app: FastAPI) -> None:
    """Every path but the open ones says that it needs the token."""
    contract = app.openapi()
    assert contract["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for path, methods in contract["paths"].items():
        for route in methods.values():
            assert route.get("security") == (None if path in OPEN else [{"token": []}]), path
            assert ("401" in route["responses"]) is (path not in OPEN), path


@pytest.fixture
def kept(tmp_path: Path) -> TokenFile:
    """A file of tokens with scopes, beside which there is the token of the settings."""
    return TokenFile(tmp_path / "tokens.json")


def test_every_route_wants_its_scope(archive: Archive, kept: TokenFile) -> None:
    """Every route and method x every scope, none, expired and revoked: 401, 403 or an answer, and nothing else."""
    secrets: dict[str, tuple[str, set[str]]] = {
        "read": (kept.create("reader", ["read"]), {"read"}),
        "write": (kept.create("writer", ["write"]), {"write"}),
        "query": (kept.create("analyst", ["query"]), {"query"}),
        "admin": (kept.create("boss", ["admin"]), {"read", "write", "query", "admin"}),
        "settings": (TOKEN, {"read", "write", "query", "admin"}),
        "expired": (kept.create("old", ["admin"], expires=timedelta(seconds=-1)), set()),
        "revoked": (kept.create("gone", ["admin"]), set()),
        "none": ("", set()),
    }
    kept.revoke("gone")
    app = create_app(archive=archive, guard=Guard(TOKEN, kept))
    app.state.archive = archive
    asyncio.run(app.state.watch.close())  # events would never end
    client = Client(app)
    routes = set(walk(app.routes)) | {(method, path) for _, path in walk(app.routes) for method in METHODS}
    assert ("POST", "/v1/cypher") in routes
    for method, path in (
        (method, path.replace("w0", "nobody") if method == "DELETE" else path) for method, path in routes
    ):
        wanted = "query" if (method, path) == ("POST", "/v1/cypher") else "write"
        wanted = "admin" if method == "DELETE" and path.startswith("/v1/removed/") else wanted
        wanted = "read" if method in {"GET", "HEAD", "OPTIONS"} else wanted
        wanted = "admin" if path.startswith("/v1/tokens") else wanted
        for who, (secret, scopes) in secrets.items():
            headers = {"Authorization": f"Bearer {secret}"} if secret else {}
            answer = client.request(method, path, headers=headers)
            at = (method, path, who, answer.status_code)
            if is_open(path):
                assert answer.status_code not in {401, 403}, at
            elif who in {"none", "expired", "revoked"}:
                assert answer.status_code == 401, at
            elif wanted in scopes:
                assert answer.status_code not in {401, 403, 500}, at
            else:
                assert answer.status_code == 403, at
                assert method == "HEAD" or answer.json()["code"] == "forbidden", at


def test_a_token_counts_and_stops_to_count_at_once(archive: Archive, kept: TokenFile) -> None:
    """Without any, loopback is open; with the first it is closed, and stays so without its file."""
    app = create_app(archive=archive, guard=Guard(None, kept))
    app.state.archive = archive
    client = Client(app)
    assert client.get("/v1/runs").status_code == 200
    headers = {"Authorization": f"Bearer {kept.create('a', ['read'])}"}
    assert client.get("/v1/runs").status_code == 401
    assert client.get("/v1/runs", headers=headers).status_code == 200
    kept.revoke("a")
    refused = client.get("/v1/runs", headers=headers)
    assert (refused.status_code, "revoked" in refused.json()["detail"]) == (401, True)
    kept.path.unlink()
    assert client.get("/v1/runs").status_code == 401


def test_tokens_are_given_and_taken_over_rest(archive: Archive, kept: TokenFile) -> None:
    """By whoever has the scope admin: shown once, listed without secret and hash, revoked from the next request on."""
    app = create_app(archive=archive, guard=Guard(None, kept))
    app.state.archive = archive
    client = Client(app)
    body = {"name": "ci", "scopes": ["read", "write"], "expires": "30d"}
    first = client.request("POST", "/v1/tokens", json=body)
    assert (first.status_code, "token create" in first.json()["hint"]) == (403, True), "an open service gives none away"
    boss = {"Authorization": f"Bearer {kept.create('boss', ['admin'])}"}
    new = client.request("POST", "/v1/tokens", json=body, headers=boss)
    assert (new.status_code, new.headers["cache-control"]) == (201, "no-store")
    bearer = {"Authorization": f"Bearer {new.json()['token']}"}
    assert client.get("/v1/runs", headers=bearer).status_code == 200
    assert client.get("/v1/tokens", headers=bearer).status_code == 403
    token = client.get(new.headers["location"], headers=boss)
    assert (token.json()["scopes"], token.json()["state"]) == (["read", "write"], "valid")
    listed = client.get("/v1/tokens", headers=boss)
    assert [entry["name"] for entry in listed.json()["tokens"]] == ["boss", "ci"]
    for entry in kept.tokens():
        assert entry.digest not in listed.text
    assert client.request("POST", "/v1/tokens", json=body, headers=boss).json()["code"] == "conflict"
    wrong: list[dict[str, Any]] = [
        {"name": "x y"},
        {"scopes": ["all"]},
        {"scopes": []},
        {"expires": "soon"},
        {"more": 1},
    ]
    for other in (*wrong, {"name": "long", "expires": "9999y"}):
        assert client.request("POST", "/v1/tokens", json=body | other, headers=boss).status_code == 422, other
    assert client.request("DELETE", "/v1/tokens/ci", headers=boss).status_code == 204
    assert client.get("/v1/runs", headers=bearer).status_code == 401
    assert client.request("DELETE", "/v1/tokens/ci", headers=boss).status_code == 404
    bare = create_app(archive=archive, guard=Guard(TOKEN))
    assert "API_TOKENS_FILE" in Client(bare).get("/v1/tokens", headers=BEARER).json()["hint"]


def test_tokens_made_at_the_same_time_are_all_kept(kept: TokenFile) -> None:
    """Whoever changes the file reads it first, alone."""
    with ThreadPoolExecutor(8) as pool:
        secrets = list(pool.map(lambda k: TokenFile(kept.path).create(f"t{k}", ["read"]), range(24)))
    assert {token.digest for token in kept.tokens()} == {digest_of(secret) for secret in secrets}


def test_a_file_of_tokens_that_others_can_read_is_refused(archive: Archive, kept: TokenFile) -> None:
    """Nobody is answered, rather than by tokens that anybody may have read; so is a damaged one."""
    headers = {"Authorization": f"Bearer {kept.create('a', ['read'])}"}
    app = create_app(archive=archive, guard=Guard(None, TokenFile(kept.path)))
    app.state.archive = archive
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    kept.path.chmod(0o644)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("topostrata.service.tokens.others_can_read", lambda path: bool(path.stat().st_mode & 0o044))
        answer = Client(app).get("/v1/runs", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (503, "settings")
    assert str(kept.path) not in answer.text
    kept.path.chmod(0o600)
    kept.path.write_text("{}", encoding="utf-8")
    assert Client(app).get("/v1/runs", headers=headers).status_code == 503


def test_only_hashes_are_kept(kept: TokenFile) -> None:
    """Whoever reads the file can show none of the tokens."""
    secret = kept.create("a", ["read", "query"], expires=timedelta(days=1))
    assert secret not in kept.path.read_text("utf-8")
    (token,) = TokenFile(kept.path).tokens()
    assert (token.name, token.scopes, token.state) == ("a", ("read", "query"), "valid")
    with pytest.raises(ConflictError):
        kept.create("a", ["read"])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_a_page_of_another_site_gets_nothing(archive: Archive, headers: dict[str, str], status: int) -> None:
    """Although the browser reaches the service by its own name, and although nothing is changed; a link to it is fine."""
    app = create_app(archive=archive)
    app.state.archive = archive
    answer = Client(app).get("/v1/runs", headers=headers)
    assert answer.status_code == status
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert (answer.json().get("code") == "cross-site") is (status == 403)
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert Client(app).get("/", headers=link).status_code == 200


def test_the_command_line_makes_lists_and_revokes(tmp_path: Path) -> None:
    """Shown once, listed without its secret, revoked by name."""
    store = ("--store", str(tmp_path / "archive"))
    secret = topostrata(
        "token", "create", "ci", "--scope", "read", "--scope", "write", "--expires", "30d", *store
    ).stdout
    assert re.fullmatch(r"ts_[A-Za-z0-9_-]{43}\n", secret)
    done = topostrata("token", "ls", "--json", *store)
    (token,) = json.loads(done.stdout)
    assert (token["name"], token["scopes"], token["state"]) == ("ci", ["read", "write"], "valid")
    assert secret.strip() not in done.stdout
    assert topostrata("token", "revoke", "ci", *store).returncode == 0
    assert json.loads(topostrata("token", "ls", "--json", *store).stdout)[0]["state"] == "revoked"
    for wrong in (["create", "x y", "--scope", "read"], ["create", "x", "--scope", "all"], ["revoke", "nobody"]):
        assert topostrata("token", *wrong, *store).returncode == 1


def topostrata(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "topostrata.service.cli.main", *arguments],
        env=os.environ | {f"TOPOSTRATA_{name}": value for name, value in settings.items()},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
@pytest.mark.parametrize("weak", ["", "short", "a" * 64])
def test_a_server_does_not_start_with_a_weak_token(tmp_path: Path, host: str, weak: str) -> None:
    """Better no service than one that looks guarded; on loopback as well."""
    done = topostrata("serve", "--host", host, "--port", "0", "--store", str(tmp_path / "none"), API_TOKEN=weak)
    assert done.returncode == 2
    assert "expected 32 random characters" in done.stderr
    assert not (tmp_path / "none").exists()


def test_doctor_shows_that_there_is_a_token_and_not_which(tmp_path: Path) -> None:
    """What is in force, masked."""
    done = topostrata("doctor", "--json", "--store", str(tmp_path / "none"), API_TOKEN=TOKEN)
    checks: dict[str, Any] = {check["check"]: check for check in json.loads(done.stdout)["checks"]}
    assert "api_token = **********" in checks["settings"]["found"]
    assert checks["rest"] == {"check": "rest", "ok": True, "found": "every request has to show the token"}
    assert TOKEN not in done.stdout + done.stderr
    open_to_all = json.loads(topostrata("doctor", "--json", "--store", str(tmp_path / "none")).stdout)
    assert "open, on loopback only: no token is set" in [check["found"] for check in open_to_all["checks"]]

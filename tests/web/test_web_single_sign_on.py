"""单点登录与终端登录：真的浏览器，真的跳转；认证的服务在这里跑（oidc-provider-mock，外面加上 PKCE 的核对）。"""

import asyncio
import base64
import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import flask
import jwt
import oidc_provider_mock
import psycopg
import pytest
from playwright.sync_api import Browser, Page
from werkzeug.serving import make_server

from own_database import own_database, variables
from running_system import free_port, wait_until
from scns_conductor.core.errors import Forbidden, ServiceUnavailable, SettingsError, Unauthorized
from scns_conductor.core.settings import Settings
from scns_conductor.local.engines import Engines
from scns_conductor.services.oidc_login import OidcLogin, mapped_user
from scns_conductor.web.login_routes import OIDC_COOKIE
from unix_people import unix_users

USER = "scnssso"
CLIENT_ID = "scns"
SUBJECT, STRANGER, ROOT = "subject-1", "stranger-1", "root-1"


@dataclass
class Provider:
    """认证的服务；verified 是核对过 PKCE 的次数。"""

    url: str
    verified: list[str]

    def code_for(self, authorization_url: str, subject: str) -> dict[str, str]:
        """人在那里登录成 subject，跳转回来带的参数。"""
        parts = urlsplit(authorization_url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", f"{parts.path}?{parts.query}", urlencode({"sub": subject}), headers)
        answer = connection.getresponse()
        location = answer.getheader("Location") or ""
        connection.close()
        assert answer.status == 302
        return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}

    def id_token(self, client_id: str, nonce: str, subject: str = SUBJECT) -> str:
        """一个真的 ID 令牌，给 client_id 的。"""
        verifier = secrets.token_urlsafe(32)
        asked = {
            "client_id": client_id, "response_type": "code", "scope": "openid profile", "nonce": nonce, "state": "s",
            "redirect_uri": "http://localhost/back", "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        }  # fmt: skip
        code = self.code_for(f"{self.url}/oauth2/authorize?{urlencode(asked)}", subject)["code"]
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": "http://localhost/back",
            "client_id": client_id, "client_secret": "x", "code_verifier": verifier,
        }  # fmt: skip
        with urllib.request.urlopen(f"{self.url}/oauth2/token", urlencode(form).encode(), timeout=30) as answer:
            return str(json.load(answer)["id_token"])


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """走到底；playwright 在这个线程里已有一个事件循环。"""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return pool.submit(asyncio.run, coroutine).result()


def challenge_of(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    patch = pytest.MonkeyPatch()
    patch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    people = [
        oidc_provider_mock.User(sub=SUBJECT, claims={"preferred_username": USER, "name": "某人"}),
        oidc_provider_mock.User(sub=STRANGER, claims={"preferred_username": "scns-nobody-here"}),
        oidc_provider_mock.User(sub=ROOT, claims={"preferred_username": "root"}),
    ]
    app = oidc_provider_mock.app(require_nonce=True, user_claims=people)
    challenges: dict[str, str] = {}
    verified: list[str] = []

    # 它自己不核对 PKCE：在外面加上（RFC 7636 §4.6）。
    @app.before_request
    def check_verifier() -> Any:
        if flask.request.path == "/realm/.well-known/openid-configuration":
            # 说自己是别人的。
            places = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            return flask.jsonify(
                issuer="https://login.example.org", **dict.fromkeys(places, "https://login.example.org/x")
            )
        if flask.request.path == "/oauth2/authorize" and flask.request.args.get("code_challenge_method") != "S256":
            return flask.jsonify(error="invalid_request"), 400
        if flask.request.path == "/oauth2/token":
            code, verifier = flask.request.form.get("code", ""), flask.request.form.get("code_verifier", "")
            if challenges.pop(code, None) != challenge_of(verifier):
                return flask.jsonify(error="invalid_grant"), 400
            verified.append(code)
        return None

    @app.after_request
    def keep_challenge(answer: flask.Response) -> flask.Response:
        if flask.request.path == "/oauth2/authorize" and answer.status_code == 302:
            code = parse_qs(urlsplit(answer.headers["Location"]).query).get("code")
            if code:
                challenges[code[0]] = flask.request.args["code_challenge"]
        return answer

    server = make_server("localhost", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Provider(f"http://localhost:{server.server_port}", verified)
    server.shutdown()
    thread.join()
    server.server_close()
    patch.undo()


@dataclass
class Site:
    api: str
    web: str
    database_url: str

    def post(self, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        request = urllib.request.Request(
            self.api + path, method="POST", data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {}),
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


@pytest.fixture(scope="module")
def site(engines: Engines, provider: Provider) -> Iterator[Site]:
    if os.geteuid() != 0:
        pytest.skip("需要 root：建用户")
    work = Path(tempfile.mkdtemp(prefix="scns-"))
    api_port, web_port = free_port(), free_port()
    web_url = f"http://127.0.0.1:{web_port}"
    environment = {
        **os.environ,
        "SCNS_DATA_DIR": str(work / "data"),
        "SCNS_API_PORT": str(api_port),
        "SCNS_WEB_URL": web_url,
        "SCNS_OIDC_ISSUER": provider.url,
        "SCNS_OIDC_CLIENT_ID": CLIENT_ID,
        "SCNS_OIDC_CLIENT_SECRET": "秘密".encode().hex(),
        "SCNS_OIDC_NAME": "用实验室账号登录",
    }
    web = ["-m", "scns_conductor.web", "--port", str(web_port), "--data-dir", str(work / "data")]
    with unix_users(USER), contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, work)
        settings = stack.enter_context(own_database(engines, "t_single_sign_on", work / "data"))
        environment |= variables(settings)
        for words in (["-m", "scns_conductor.api"], [*web, "--api-url", f"http://127.0.0.1:{api_port}"]):
            process = subprocess.Popen([sys.executable, *words], env=environment)
            stack.callback(process.wait, 60)
            stack.callback(process.terminate)

        def up(url: str) -> Callable[[], bool]:
            def answers() -> bool:
                with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10):
                    return True
                return False

            return answers

        wait_until(up(f"http://127.0.0.1:{api_port}/health/ready"), what="API 起来")
        wait_until(up(f"{web_url}/health"), what="看板起来")
        yield Site(f"http://127.0.0.1:{api_port}", web_url, settings.database_url.get_secret_value())


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(locale="zh-CN")
    yield context.new_page()
    context.close()


def sign_in(page: Page, subject: str) -> None:
    """从登录页去认证，回来。"""
    page.get_by_role("link", name="用实验室账号登录").click()
    page.get_by_role("button", name=subject, exact=True).click()


def test_signing_on_goes_there_and_back(page: Page, site: Site, provider: Provider) -> None:
    before = len(provider.verified)
    page.goto(site.web + "/jobs?state=RUNNING")
    assert "/login" in page.url
    sign_in(page, SUBJECT)
    page.get_by_role("button", name=USER).wait_for()
    assert page.url == site.web + "/jobs?state=RUNNING"
    assert len(provider.verified) == before + 1, "认证的服务核对了 PKCE"
    # 路上用的 cookie 不留。
    assert OIDC_COOKIE not in {each["name"] for each in page.context.cookies()}


@pytest.mark.parametrize("subject", [STRANGER, ROOT])
def test_who_has_no_user_here_stays_outside(page: Page, site: Site, subject: str) -> None:
    page.goto(site.web)
    sign_in(page, subject)
    assert "没有对应的用户" in page.get_by_role("alert").inner_text()
    page.goto(site.web + "/jobs")
    assert "/login" in page.url


def test_a_sign_on_that_was_denied(page: Page, site: Site) -> None:
    page.goto(site.web)
    page.get_by_role("link", name="用实验室账号登录").click()
    page.get_by_role("button", name="Deny").click()
    assert "没有登录成" in page.get_by_role("alert").inner_text()


def test_a_terminal_is_approved_after_signing_on(page: Page, site: Site) -> None:
    status, begun = site.post("/auth/device", {"host": "login1"})
    assert status == 200
    page.goto(begun["verification_url_complete"])
    sign_in(page, SUBJECT)
    page.get_by_text("login1").wait_for()
    assert page.locator(".login-code").inner_text() == begun["user_code"]
    page.get_by_role("button", name="批准").click()
    page.get_by_role("status").wait_for()
    status, found = site.post("/auth/device/token", {"device_code": begun["device_code"]})
    assert (status, found["status"], found["user_name"]) == (200, "approved", USER)
    # 过期、取走的码：说清楚。
    page.goto(begun["verification_url_complete"])
    assert "没有这个码" in page.get_by_role("alert").inner_text()


def test_another_site_cannot_approve_a_terminal(page: Page, site: Site) -> None:
    page.goto(site.web)
    sign_in(page, SUBJECT)
    page.get_by_role("button", name=USER).wait_for()
    cookie = "; ".join(f"{each['name']}={each['value']}" for each in page.context.cookies())
    begun = site.post("/auth/device", {})[1]
    request = urllib.request.Request(
        f"{site.web}/device", urlencode({"code": begun["user_code"], "decision": "allow"}).encode(),
        {"Cookie": cookie, "Sec-Fetch-Site": "cross-site"},
    )  # fmt: skip
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 403
    refused.value.close()
    assert site.post("/auth/device/token", {"device_code": begun["device_code"]})[1]["status"] == "pending"


def test_state_flow_and_code_belong_together(site: Site, provider: Provider) -> None:
    first, second = (site.post("/auth/oidc")[1] for _ in range(2))
    back = provider.code_for(first["authorization_url"], SUBJECT)
    theirs = provider.code_for(second["authorization_url"], SUBJECT)
    for body, code in (
        # 别的浏览器开始的、猜的 state、改过的 flow。
        ({"flow": second["flow"], **back}, "oidc_flow_invalid"),
        ({"flow": first["flow"], **back, "state": "x"}, "oidc_flow_invalid"),
        ({"flow": first["flow"][:-2] + "AA", **back}, "oidc_flow_invalid"),
        ({"flow": site.post("/auth/oidc")[1]["flow"][::-1], **back}, "oidc_flow_invalid"),
        # 塞进来别人的 code：PKCE 对不上。
        ({"flow": first["flow"], "state": back["state"], "code": theirs["code"]}, "oidc_refused"),
        ({"flow": first["flow"], "state": back["state"], "code": "made-up"}, "oidc_refused"),
    ):
        status, answer = site.post("/auth/oidc/finish", body)
        assert (status, answer["code"]) == (401, code), body
    body = {"flow": first["flow"], **back}
    status, answer = site.post("/auth/oidc/finish", body)
    assert (status, answer["user_name"]) == (200, USER)
    # 同一个 code 不能再用；flow 不是令牌。
    assert site.post("/auth/oidc/finish", body)[1]["code"] == "oidc_refused"
    assert site.post("/tokens", {}, token=first["flow"])[1]["code"] == "token_invalid"
    # 登录得到的令牌不是 flow。
    assert site.post("/auth/oidc/finish", {**body, "flow": answer["token"]})[1]["code"] == "oidc_flow_invalid"


def test_a_sign_on_that_failed_is_in_the_audit(site: Site, provider: Provider) -> None:
    begun = site.post("/auth/oidc")[1]
    back = provider.code_for(begun["authorization_url"], STRANGER)
    status, answer = site.post("/auth/oidc/finish", {"flow": begun["flow"], **back})
    assert (status, answer["code"]) == (403, "oidc_user_unknown")
    assert site.post("/auth/oidc/finish", {"flow": begun["flow"], **back, "state": "x"})[0] == 401
    with psycopg.connect(site.database_url) as connection:
        rows = connection.execute(
            "SELECT actor, target, method, address, after FROM audit_log WHERE action = 'login.failed'"
        ).fetchall()
    for reason in ("oidc_user_unknown", "oidc_flow_invalid"):
        assert ("(unknown)", "(unknown)", "oidc", "127.0.0.1", {"reason": reason}) in rows


def desk(provider: Provider, **changed: Any) -> OidcLogin:
    known = {"oidc_issuer": provider.url, "oidc_client_id": CLIENT_ID, "web_url": "http://localhost:1"}
    return OidcLogin(Settings(**{**known, **changed}), lambda: {"k": b"k" * 32})


def refused_token(provider: Provider, token: str, nonce: str) -> str:
    with pytest.raises(Unauthorized) as refused:
        finished(desk(provider).verified(token, nonce))
    return refused.value.code


def test_only_a_token_for_us_and_for_this_sign_on_counts(provider: Provider) -> None:
    token = provider.id_token(CLIENT_ID, "n1")
    claims = finished(desk(provider).verified(token, "n1"))
    assert claims["preferred_username"] == USER
    # 给别的客户端的、别的一次登录的、改过的、自己签的、没有签名的。
    assert refused_token(provider, provider.id_token("another-client", "n1"), "n1") == "oidc_token_invalid"
    assert refused_token(provider, token, "n2") == "oidc_token_invalid"
    head, payload, signature = token.split(".")
    assert refused_token(provider, f"{head}.{payload}.{signature[:-4]}AAAA", "n1") == "oidc_token_invalid"
    now = int(time.time())
    made = {"iss": provider.url, "aud": CLIENT_ID, "sub": "x", "nonce": "n1", "iat": now, "exp": now + 60}
    for forged in (
        jwt.encode(made, "x" * 32, algorithm="HS256"), jwt.encode(made, None, algorithm="none"), "", "a.b.c",
    ):  # fmt: skip
        assert refused_token(provider, forged, "n1") == "oidc_token_invalid"


def test_a_provider_that_is_not_what_it_says(provider: Provider) -> None:
    with pytest.raises(ServiceUnavailable) as wrong:
        finished(desk(provider, oidc_issuer=f"{provider.url}/realm").begin())
    assert wrong.value.code == "oidc_unusable"
    with pytest.raises(ServiceUnavailable) as away:
        finished(desk(provider, oidc_issuer=f"http://localhost:{free_port()}").begin())
    assert away.value.code == "oidc_unreachable"
    for broken in ({"oidc_issuer": "http://login.example.org"}, {"oidc_client_id": None}, {"web_url": None}):
        with pytest.raises(SettingsError):
            desk(provider, **broken)
    with pytest.raises(Forbidden):
        finished(desk(provider)._user({"preferred_username": "../x"}))


def test_claims_become_users() -> None:
    def name(claims: dict[str, Any], **settings: Any) -> str | None:
        return mapped_user(Settings(**settings), claims)

    assert name({"preferred_username": "ada"}) == "ada"
    assert name({"preferred_username": "Ada Lovelace"}) is None
    assert name({"preferred_username": ["ada"]}) is None
    assert name({}) is None
    email: dict[str, Any] = {"oidc_user_claim": "email", "oidc_domain": "Lab.org", "oidc_user_map": {"x@y.org": "xu"}}
    assert name({"email": "ada@lab.org", "email_verified": True}, **email) == "ada"
    assert name({"email": "ada@evil.org", "email_verified": True}, **email) is None
    assert name({"email": "ada@lab.org", "email_verified": False}, **email) is None
    assert name({"email": "x@y.org"}, **email) == "xu"
    assert name({"email": "ada"}, **email) is None

"""登录：粘贴令牌、一次性的链接、退出、过期、会话的签名，别的网站进不来。"""

import http.client
import json
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import Browser
from visits import SignIn, token_of

from running_system import RunningSystem
from scns_conductor.web.login import safe_next
from scns_conductor.web.login_links import create_login_link, redeem
from scns_conductor.web.session import COOKIE, Sessions, Visitor


def ask(url: str, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, dict[str, str], str]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
    connection.close()
    return found


def form(url: str, token: str, **headers: str) -> tuple[int, dict[str, str], str]:
    kind = "application/x-www-form-urlencoded"
    return ask(url, "POST", "/login", urlencode({"token": token}), Content_Type=kind, **headers)


def test_pasted_token_signs_in_and_sign_out_ends_it(browser: Browser, web_system: RunningSystem, web_url: str) -> None:
    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    page.goto(web_url + "/jobs")
    assert "/login" in page.url
    page.get_by_label("访问令牌").fill("not a token")
    page.get_by_role("button", name="登录").click()
    assert "令牌" in page.get_by_role("alert").inner_text()
    page.get_by_label("访问令牌").fill(web_system.token)
    page.get_by_role("button", name="登录").click()
    page.get_by_role("heading", name="作业").wait_for()
    cookie = next(each for each in context.cookies() if each["name"] == COOKIE)
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    page.get_by_role("button", name="root").click()
    page.get_by_role("button", name="退出登录").click()
    page.get_by_text("已退出登录").wait_for()
    page.goto(web_url + "/jobs")
    assert "/login" in page.url
    context.close()


def test_login_link_works_once(web_system: RunningSystem, web_url: str) -> None:
    link = create_login_link(web_system.data_dir, web_url, web_system.token)
    assert web_system.token not in link
    first = ask(web_url, "GET", urlsplit(link).path)
    assert first[0] == 303
    assert "httponly" in first[1]["set-cookie"].lower()
    assert ask(web_url, "GET", urlsplit(link).path)[0] == 401


def test_old_login_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = create_login_link(tmp_path, "http://h", "token").rpartition("/")[2]
    monkeypatch.setattr("scns_conductor.web.login_links.LIFETIME_S", 0.0)
    assert redeem(tmp_path, code) is None
    assert redeem(tmp_path, "../../etc/passwd") is None


def test_changed_or_expired_session_is_nobody() -> None:
    sessions = Sessions(b"k" * 32)
    visitor = Visitor("token", "ada", False, False, int(time.time()) + 60, "s")
    cookie = sessions.sign(visitor)
    assert sessions.read(cookie) == visitor
    assert sessions.read(cookie[:-3] + "AAA") is None
    assert Sessions(b"x" * 32).read(cookie) is None
    assert sessions.read(sessions.sign(Visitor("t", "ada", False, False, 1, "s"))) is None
    assert sessions.read("") is None


@pytest.mark.parametrize(
    "path", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", ""]
)
def test_next_stays_on_this_site(path: str) -> None:
    assert safe_next(path) == "/"


def test_other_sites_cannot_act(web_system: RunningSystem, web_url: str) -> None:
    assert form(web_url, web_system.token, Sec_Fetch_Site="cross-site")[0] == 403
    assert form(web_url, web_system.token, Origin="http://evil.example")[0] == 403
    cookie = form(web_url, web_system.token)[1]["set-cookie"].split(";")[0]
    refused = ask(web_url, "POST", "/api/jobs/1/cancel", "", Cookie=cookie)
    assert (refused[0], json.loads(refused[2])["code"]) == (403, "cross_site")
    assert ask(web_url, "POST", "/logout", "", Cookie=cookie, Sec_Fetch_Site="cross-site")[0] == 403


def test_nothing_without_a_session(web_url: str) -> None:
    assert ask(web_url, "GET", "/api/jobs")[0] == 401
    assert ask(web_url, "GET", "/jobs/1")[0] == 303
    socket = ask(
        web_url, "GET", "/_nicegui_ws/socket.io/?EIO=4&transport=websocket", Upgrade="websocket", Connection="Upgrade",
        Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==", Sec_WebSocket_Version="13",
    )  # fmt: skip
    assert socket[0] == 403


def test_link_from_another_site_arrives(web_url: str) -> None:
    """SameSite=Strict：从邮件里点过来时 cookie 没有带，页面从自己这里再走一遍。"""
    status, _, body = ask(web_url, "GET", "/jobs/1", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
    assert status == 200
    assert 'http-equiv="refresh"' in body


def test_tight_headers(web_url: str) -> None:
    headers = ask(web_url, "GET", "/login")[1]
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_user_never_receives_anothers_script(sign_in: SignIn, web_system: RunningSystem, web_url: str) -> None:
    secret = "密语 zebra-5517"
    job_id = web_system.submit(f"#!/bin/bash\necho '{secret}'\n", name="private")
    web_system.wait_state(job_id)
    page = sign_in(f"/jobs/{job_id}", "ada", expected_faults="403")
    page.get_by_text("脚本与输出只给").wait_for()
    assert secret not in page.content()
    script = page.evaluate(f"fetch('/api/jobs/{job_id}/script').then((answer) => answer.status)")
    output = page.evaluate(f"fetch('/api/jobs/{job_id}/logs/stdout').then((answer) => answer.status)")
    assert (script, output) == (403, 403)
    assert token_of(web_system, "ada") not in page.content()
    assert page.get_by_role("button", name="取消").count() == 0


def test_the_command_makes_a_link(web_system: RunningSystem, web_url: str) -> None:
    command = [str(Path(sys.executable).with_name("scns")), "web", "--link"]
    done = subprocess.run(command, env=web_system.environment, capture_output=True, text=True, timeout=60, check=True)
    link = done.stdout.strip()
    assert link.startswith(web_url)
    assert ask(web_url, "GET", urlsplit(link).path)[0] == 303

"""出了岔子：令牌过期、API 不在又回来、十个标签页、两个人动同一个作业、很长的名字、钟不准；填好的都还在。"""

import contextlib
import os
import re
import signal
from collections.abc import Iterator

import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect
from visits import SignIn, web_url_of

from running_system import RunningSystem, database_url, wait_until
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import issue_token
from scns_conductor.web.login_links import create_login_link

LONG = "n" * 200


@contextlib.contextmanager
def api_away(system: RunningSystem) -> Iterator[None]:
    """API 停住。"""
    (api,) = system.services("api")
    os.kill(api, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(api, signal.SIGCONT)


@pytest.fixture
def long_node(web_system: RunningSystem) -> Iterator[str]:
    """一个名字有二百个字的节点，下线的。"""
    with psycopg.connect(database_url(web_system)) as connection:
        connection.execute(
            "INSERT INTO nodes"
            " (name, address, cpus, memory, temporary_disk, gres, features, weight, state, containment)"
            " VALUES (%s, 'nowhere', 4, 4096, 0, '{}', '{}', 1, 'DOWN', '{}')",
            (LONG,),
        )
    yield LONG
    with psycopg.connect(database_url(web_system)) as connection:
        connection.execute("DELETE FROM nodes WHERE name = %s", (LONG,))


def fits(page: Page) -> bool:
    """没有横着溢出。"""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_half_filled_form_survives_the_api_being_away(sign_in: SignIn, web_system: RunningSystem) -> None:
    page = sign_in("/submit", expected_faults="50[0-9]")
    script = page.get_by_label("脚本", exact=True)
    expect(page.locator(".plan-answer.good")).to_be_visible()
    with api_away(web_system):
        script.fill("#!/bin/bash\n#SBATCH --job-name=half-filled\necho 一半\n")
        expect(page.get_by_text("连不上 API")).to_be_visible()
        expect(script).to_have_value(re.compile("half-filled"))
    expect(page.get_by_text("连不上 API")).to_have_count(0)
    expect(script).to_have_value(re.compile("half-filled"))
    page.get_by_role("button", name="提交作业").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("half-filled")


def test_token_expires_in_an_open_page(browser: Browser, web_system: RunningSystem) -> None:
    base = web_url_of(web_system)
    status, issued = web_system.call("POST", "/tokens", {"user_name": "eve", "lifetime_s": 600})
    assert status == 201, issued
    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    page.goto(create_login_link(web_system.data_dir, base, issued["token"]))
    page.goto(base + "/submit")
    script = page.get_by_label("脚本", exact=True)
    script.fill("#!/bin/bash\n# 过期之前写的\n")
    # 到期之前就说了；服务器不认它了，草稿还在，重新登录回到这里。
    expect(page.get_by_text("登录还有")).to_be_visible()
    assert web_system.call("DELETE", f"/tokens/{issued['token_id']}")[0] in (200, 204)
    expect(page.get_by_text("登录已过期").first).to_be_visible()
    expect(script).to_have_value(re.compile("过期之前写的"))
    page.get_by_role("link", name="重新登录").first.click()
    page.get_by_role("textbox").fill(issue_token(Settings(data_dir=web_system.data_dir), "eve"))
    page.get_by_role("button").first.click()
    page.wait_for_url("**/submit")
    expect(page.get_by_label("脚本", exact=True)).to_have_value(re.compile("过期之前写的"))
    # 还没有问过服务器，到了时候自己也知道：页面开着过了一年。
    expect(page.get_by_text("登录已过期")).to_have_count(0)
    page.evaluate("(() => { const now = Date.now; Date.now = () => now() + 365 * 86400e3; })()")
    expect(page.get_by_text("登录已过期").first).to_be_visible()
    context.close()


def test_what_was_asked_while_the_connection_broke_is_asked_again(sign_in: SignIn, web_system: RunningSystem) -> None:
    job_id = web_system.submit("#!/bin/bash\ntrue\n", name="broken-line", hold=True)
    page = sign_in("/jobs?name=nothing-like-this")
    expect(page.locator(".nothing")).to_be_visible()
    # 连接死了，浏览器还不知道：这时发出的都没有到服务器。
    page.evaluate(
        """() => {
          const emit = window.socket.emit;
          window.lost = 0;
          window.socket.emit = (...words) => (window.lost++, window.socket);
          window.socket.once("disconnect", () => (window.socket.emit = emit));
        }"""
    )
    page.get_by_label("名字").fill("broken-line")
    page.get_by_label("名字").press("Tab")
    page.wait_for_function("window.lost > 0")
    page.evaluate("window.socket.io.engine.close()")
    expect(page.locator("tr.job")).to_have_count(1)
    web_system.call("POST", f"/jobs/cancel/{job_id}")
    expect(page.locator("tr.job .state-CANCELLED")).to_be_visible()


def test_what_was_just_typed_is_kept(sign_in: SignIn, web_system: RunningSystem) -> None:
    page, base = sign_in("/submit"), web_url_of(web_system)
    page.get_by_label("脚本", exact=True).fill("#!/bin/bash\n# 刚写的\n")
    page.goto(base + "/jobs")
    page.goto(base + "/submit")
    expect(page.get_by_label("脚本", exact=True)).to_have_value(re.compile("刚写的"))
    page.get_by_role("button", name="重新开始").click()


def test_two_people_act_on_one_job(sign_in: SignIn, web_system: RunningSystem) -> None:
    job_id = web_system.submit("#!/bin/bash\ntrue\n", name="两个人", hold=True)
    mine, theirs = sign_in(f"/jobs/{job_id}", expected_faults="409"), sign_in(f"/jobs/{job_id}", expected_faults="409")
    expect(theirs.get_by_role("button", name="放行")).to_be_visible()
    mine.get_by_role("button", name="取消").click()
    mine.get_by_role("dialog").get_by_role("button", name="取消").click()
    # 另一个人的画面自己变了：没有能放行的了。
    expect(theirs.locator(".page-head .state-CANCELLED")).to_be_visible()
    expect(theirs.get_by_role("button", name="放行")).to_have_count(0)
    # 画面还没有变的那一刻点了：API 说为什么不行，不是空白。
    fresh = web_system.submit("#!/bin/bash\ntrue\n", name="慢一步", hold=True)
    theirs.goto(web_url_of(web_system) + f"/jobs/{fresh}")
    release = theirs.get_by_role("button", name="放行")
    expect(release).to_be_visible()
    theirs.evaluate("document.querySelectorAll('.page-head button').forEach((each) => (each.dataset.kept = '1'))")
    theirs.route(
        "**/api/jobs/control", lambda route: (web_system.call("POST", f"/jobs/cancel/{fresh}"), route.continue_())
    )
    release.click()
    expect(theirs.locator(".toast.error")).to_be_visible()
    web_system.wait_state(fresh, "CANCELLED")


def test_ten_tabs_all_see_a_change(browser: Browser, web_system: RunningSystem) -> None:
    base = web_url_of(web_system)
    context = browser.new_context(locale="zh-CN")
    job_id = web_system.submit("#!/bin/bash\ntrue\n", name="十个标签页", hold=True)
    first = context.new_page()
    first.goto(create_login_link(web_system.data_dir, base, web_system.token))
    pages = [first, *(context.new_page() for _ in range(9))]
    for page in pages:
        page.goto(f"{base}/jobs/{job_id}")
    for page in pages:
        expect(page.locator(".page-head .state-PENDING")).to_be_visible()
    web_system.call("POST", f"/jobs/{job_id}/release")
    for page in pages:
        expect(page.locator(".page-head .state-COMPLETED")).to_be_visible()
    context.close()


def test_a_very_long_node_name_breaks_nothing(sign_in: SignIn, long_node: str) -> None:
    page = sign_in("/nodes")
    base = page.url.removesuffix("/nodes")
    for path in ("/", "/nodes", f"/nodes/{long_node}", "/plan", "/admin?tab=reservations"):
        page.goto(base + path)
        page.locator("main h1").first.wait_for()
        page.wait_for_function("!document.querySelector('main .bars')")
        assert fits(page), path
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/", "/nodes", f"/nodes/{long_node}"):
        page.goto(base + path)
        page.locator("main h1").first.wait_for()
        page.wait_for_function("!document.querySelector('main .bars')")
        assert fits(page), path


def test_a_script_that_looks_like_html_is_only_text(sign_in: SignIn, web_system: RunningSystem) -> None:
    script = (
        "#!/bin/bash\n# </script><script>window.hit=1</script><img src=x onerror=window.hit=1>\necho '\u202e</pre>🚀'\n"
    )
    job_id = web_system.submit(script, name="<b>\u202e🚀</b>&amp;")
    web_system.wait_state(job_id)
    page = sign_in(f"/jobs/{job_id}")
    expect(page.locator(".code")).to_contain_text("</script>")
    expect(page.locator(".terminal")).to_contain_text("</pre>🚀")
    expect(page.get_by_role("heading", level=1)).to_contain_text("<b>")
    page.get_by_role("link", name="改了再交").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("提交")
    expect(page.get_by_label("脚本", exact=True)).to_have_value(re.compile("</script>"))
    assert page.evaluate("window.hit") is None


def test_a_wrong_clock_does_not_change_durations(browser: Browser, web_system: RunningSystem) -> None:
    """浏览器的钟快了三天：时长与“多久之前”照服务器的。"""
    job_id = web_system.submit("#!/bin/bash\nsleep 300\n", name="钟")
    web_system.wait_state(job_id, "RUNNING")
    base = web_url_of(web_system)
    context = browser.new_context(locale="zh-CN")
    context.add_init_script(
        "const now = Date.now, ahead = 3 * 86400e3; const Real = Date;"
        "Date = class extends Real { constructor(...words) { super(...(words.length ? words : [now() + ahead])); } };"
        "Date.now = () => now() + ahead;"
    )
    page = context.new_page()
    page.goto(create_login_link(web_system.data_dir, base, web_system.token))
    page.goto(f"{base}/jobs/{job_id}")
    ribbon = page.locator(".ribbon")
    expect(ribbon).to_contain_text("运行中")
    assert "天" not in ribbon.inner_text()
    assert page.get_by_text("登录已过期").count() == 0
    context.close()
    web_system.call("POST", f"/jobs/cancel/{job_id}")
    wait_until(lambda: web_system.query(job_id)["state"] == "CANCELLED")

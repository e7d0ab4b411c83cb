"""看板的测试：一套真的系统，一个真的浏览器（Debian 的 chromium）；不是本机的请求一律拦下。"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from own_network import own_network
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright
from visits import SignIn, token_of, web_url_of

from running_system import RunningSystem, start_system
from scns_conductor.web.login_links import create_login_link

# 机器忙的时候什么都慢：等的是结果，到了就往下走，期限长一些不多花时间。
WAIT_MS = 60_000
expect.set_options(timeout=WAIT_MS)
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
CACHE = Path(__file__).resolve().parents[2] / ".pytest_cache" / "web"
AXE = "axe-core@4.10.3"
LOCAL = ("127.0.0.1", "localhost")
# 由浏览器自己拦，不用 route：它的请求要等 Python 这边在等浏览器时才放行，测试在等别的就卡死。
NOWHERE_ELSE = "--host-resolver-rules=MAP * ~NOTFOUND" + "".join(f", EXCLUDE {host}" for host in LOCAL)


@pytest.fixture(scope="session", autouse=True)
def outside() -> Iterator[list[str]]:
    """全部测试在只有回环的网络里；要到外面去的命令前面加上它。"""
    with own_network() as prefix:
        yield prefix


@pytest.fixture(scope="session")
def web_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """带看板的一套系统：两个节点，各四个 CPU、两个 GPU。"""
    data_dir = tmp_path_factory.mktemp("web") / "data"
    options = ("--web", "--nodes", "2", "--cpus", "4", "--memory", "8G", "--gpus", "2")
    # 采样勤一些：曲线几秒就有。webhook 送得到回环地址。
    environment = {
        "SCNS_JOB_SAMPLE_INTERVAL_S": "1",
        "SCNS_WEBHOOKS": "true",
        "SCNS_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1/32",
    }
    with start_system(data_dir, *options, environment=environment) as system:
        yield system


@pytest.fixture(scope="session")
def web_url(web_system: RunningSystem) -> str:
    """看板的地址。"""
    return web_url_of(web_system)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """浏览器；在容器里以 root 运行，沙箱用不了。"""
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", NOWHERE_ELSE])
        yield found
        found.close()


@pytest.fixture(scope="session")
def contexts(browser: Browser, web_system: RunningSystem, web_url: str) -> Iterator[Callable[..., BrowserContext]]:
    """登录了的浏览器：一个人（与一种设定）一个，各测试合用，脚本与样式只取一次。"""
    made: dict[tuple[object, ...], BrowserContext] = {}

    def context_of(user: str | None, again: bool, **options: object) -> BrowserContext:
        key = (user, *sorted(options.items()))
        if key not in made:
            settings = {"locale": "zh-CN", "viewport": {"width": 1360, "height": 860}, **options}
            made[key] = browser.new_context(**settings)
            made[key].set_default_timeout(WAIT_MS)
        context = made[key]
        if again and context.pages:
            return context
        # 上一个测试留下的：语言、明暗、退出了的登录。
        context.clear_cookies()
        link = create_login_link(web_system.data_dir, web_url, token_of(web_system, user))
        assert context.request.get(link, max_redirects=0).status == 303
        return context

    yield context_of
    for context in made.values():
        context.close()


@pytest.fixture
def sign_in(contexts: Callable[..., BrowserContext], web_url: str) -> Iterator[SignIn]:
    """登录成某个人，打开一页；结束时控制台里不许有错误，也不许向别处发请求。"""
    pages: list[Page] = []
    faults: list[str] = []

    def open_page(path: str = "/", user: str | None = None, *, expected_faults: str = "", **options: object) -> Page:
        context = contexts(user, bool(pages), **options)
        first = not context.pages
        page = context.new_page()
        pages.append(page)

        def guard(request: Request) -> None:
            if urlsplit(request.url).scheme.startswith("http") and urlsplit(request.url).hostname not in LOCAL:
                faults.append(f"向外的请求：{request.url}")

        def heard(kind: str, text: str) -> None:
            if not expected_faults or not re.search(expected_faults, text):
                faults.append(f"{kind}：{text}")

        page.on("request", guard)
        page.on("console", lambda message: heard("控制台", message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: heard("页面", str(error)))
        if first:
            # 上一个测试的草稿。
            page.goto(web_url + "/health")
            page.evaluate("localStorage.clear()")
        page.goto(web_url + path)
        page.locator(".rail").wait_for()
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not faults


@pytest.fixture(scope="session")
def axe_script(outside: list[str]) -> str:
    """axe-core 的脚本，从 npm 取一次，留在缓存里。"""
    path = CACHE / "node_modules" / "axe-core" / "axe.min.js"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(CACHE), "--no-save", "--no-audit", "--no-fund", AXE]
        subprocess.run([*outside, *command], check=True, timeout=120)
    return path.read_text()

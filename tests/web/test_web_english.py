"""英文的看板：哪一页、哪个提示、哪句 API 的话里都不剩中文；别人起的名字照旧。"""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from test_web_pages import PAGES
from visits import SignIn, visit

from running_system import RunningSystem, wait_until

# 看得见的文字，与悬停、朗读的：属性也算。别人写的（名字、脚本、输出、原因）在 bdi、pre 里，或是下面 OWN 的字段。
WORDS = """() => {
  const found = [document.title], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (!parent.closest("script, style, bdi, pre, textarea, a[lang='zh-CN']")) found.push(walker.currentNode.data);
  }
  for (const one of document.querySelectorAll("[title], [placeholder], [aria-label], [alt]"))
    for (const name of ["title", "placeholder", "aria-label", "alt"])
      if (one.hasAttribute(name)) found.push(one.getAttribute(name));
  return found.filter((text) => /[\\u3000-\\u303f\\u3400-\\u9fff\\uff00-\\uffef]/.test(text));
}"""
CHINESE = re.compile("[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]+")
OWN = ("/jobs?limit=1000&fields=name,comment", "/nodes", "/accounts", "/reservations", "/tokens", "/audit?limit=500")


@pytest.fixture
def scene(web_system: RunningSystem) -> Iterator[dict[str, str]]:
    """各种样子的作业：占着的、等资源的、等依赖的、失败的、数组。"""
    web_system.cancel_everything()
    submit = web_system.submit
    holding = [submit("sleep 600", name="holding", cpus_per_task=3, time_limit="60") for _ in range(2)]
    for job in holding:
        web_system.wait_state(job, "RUNNING")
    wide = {"nodes": "2", "tasks": 2, "cpus_per_task": 2, "tres_per_node": "gres/gpu:2", "time_limit": "600"}
    jobs = {
        "running": holding[0],
        "waiting": submit("true", name="waiting", **wide),
        "dependent": submit("true", name="dependent", dependency=f"afterok:{holding[0]}"),
        # 放行之后还要看得到「取消」，所以不能一下子跑完。
        "held": submit("sleep 600", name="held", hold=True),
        "failed": submit("exit 3", name="failed", memory_per_node="1G", time_limit="60"),
        "array": submit("exit $((SLURM_ARRAY_TASK_ID % 2))", name="array", array="0-3", time_limit="5"),
    }
    web_system.wait_state(jobs["failed"])
    wait_until(lambda: web_system.call("GET", f"/jobs/{jobs['waiting']}")[1]["reason"] == "Resources", what="在等资源")
    yield jobs
    web_system.cancel_everything()


def own_words(system: RunningSystem) -> set[str]:
    """别的测试起的中文名字、写的原因。"""
    return {word for path in OWN for word in CHINESE.findall(str(system.call("GET", path)[1]))}


def check(page: Page, own: set[str], where: str) -> None:
    left = [text for text in page.evaluate(WORDS) if set(CHINESE.findall(text)) - own]
    assert not left, (where, left)


def test_no_chinese_is_left(sign_in: SignIn, web_system: RunningSystem, scene: dict[str, str]) -> None:
    page = sign_in("/jobs", locale="en-GB", expected_faults="404|422|400|409")
    own = own_words(web_system)
    assert page.locator("html").get_attribute("lang") == "en"
    extra = [
        "/nowhere",
        "/jobs/999999",
        "/nodes/nosuch",
        "/jobs?cols=" + "wait,limit,expected,exit,priority,submit,start,end",
    ]
    for path in [*PAGES, *extra, *(f"/jobs/{job}" for job in scene.values())]:
        visit(page, path)
        check(page, own, path)

    # 为什么还没有开始，连同建议。
    visit(page, "/jobs/" + scene["waiting"])
    expect(page.locator(".suggestion").first).to_be_visible()
    check(page, own, "why")
    # 依赖的说明。
    visit(page, "/jobs/" + scene["dependent"])
    expect(page.locator(".why-line").first).to_be_visible()
    check(page, own, "dependency")
    # 对话框、做完了的一句、菜单、快捷键。
    visit(page, "/jobs/" + scene["held"])
    page.get_by_role("button", name="Release").click()
    expect(page.locator(".toast").first).to_be_visible()
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    check(page, own, "dialog")
    page.get_by_role("dialog").get_by_role("button", name="Cancel", exact=True).click()
    page.locator(".who").click()
    check(page, own, "menu")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    check(page, own, "keys")


def test_mistakes_are_told_in_english(sign_in: SignIn, web_system: RunningSystem) -> None:
    page = sign_in("/submit", locale="en-GB", expected_faults="422|400|404")
    own = own_words(web_system)
    script = page.get_by_label("Script", exact=True)
    # 写法错了的行（看板自己读的）、API 的核对、放不下的。
    for text in (
        "#SBATCH --time=abc",
        "#SBATCH --nosuch",
        "#SBATCH --partition=nosuch",
        "#SBATCH -c 4000",
        "#SBATCH --mem=9T",
    ):
        script.fill(f"#!/bin/bash\n{text}\ntrue\n")
        expect(page.locator(".plan-card")).not_to_contain_text("Asking")
        expect(page.locator(".plan-card .plan-answer")).to_be_visible()
        page.wait_for_function(
            "() => document.querySelector('.field-error, .plan-answer:not(.bad):not(.good)')", timeout=60_000
        )
        check(page, own, text)
    page.goto(page.url.replace("/submit", "/what-if"))
    page.get_by_label("Remove nodes").fill("nosuch")
    page.get_by_role("button", name="Run").click()
    expect(page.locator(".field-error, .notice.bad").first).to_be_visible()
    check(page, own, "what-if")


def test_the_door_speaks_english(web_url: str, sign_in: SignIn) -> None:
    """看板自己的话：登录页、用过的链接、不是本站的请求。"""
    page = sign_in("/", locale="en-GB", expected_faults="401|403")
    found = page.evaluate("fetch('/api/jobs/cancel/1', { method: 'POST' }).then((answer) => answer.json())")
    assert (found["status"], found["code"]) == (403, "cross_site")
    assert not CHINESE.search(found["detail"]), found
    page.goto(web_url + "/login/once/nosuch")
    expect(page.get_by_role("alert")).to_be_visible()
    check(page, set(), "login")

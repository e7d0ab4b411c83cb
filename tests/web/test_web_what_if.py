"""「假如」：写下改动，演一遍，前后并排；写错的标在那一项上，停得下。"""

import pytest
from playwright.sync_api import Route, expect
from visits import SignIn

from running_system import RunningSystem


@pytest.fixture(scope="module")
def history(web_system: RunningSystem) -> RunningSystem:
    """几个结束了的作业。"""
    jobs = [web_system.submit("#!/bin/bash\nsleep 1\n", name=f"past-{n}", time_limit="5") for n in range(8)]
    for job_id in jobs:
        web_system.wait_state(job_id)
    return web_system


def test_a_change_is_replayed_and_compared(sign_in: SignIn, history: RunningSystem) -> None:
    page = sign_in("/what-if", "ada")
    page.get_by_label("加上节点").fill("2:16")
    page.get_by_label("每人同时至多几个作业").fill("1")
    page.get_by_role("button", name="先来先走").click()
    page.get_by_role("button", name="演一遍").click()
    expect(page.locator(".why-lead")).to_contain_text("平均等待")
    heads = page.locator("main table").first.locator("thead th")
    expect(heads).to_have_text(["", "实际的", "照现在的重演", "假如", "假如，fifo"])
    row = page.locator("main table").first.locator("tr", has=page.get_by_text("节点 / CPU / GPU"))
    expect(row.locator("td").nth(2)).to_have_text("4 / 40 / 4")
    expect(page.locator(".chart-line")).to_have_count(8)
    # 改动都在地址里：重新打开还在。
    page.reload()
    expect(page.get_by_label("加上节点")).to_have_value("2:16")


def test_mistakes_are_shown_at_their_field(sign_in: SignIn, history: RunningSystem) -> None:
    page = sign_in("/what-if?add_nodes=many", expected_faults="422")
    page.get_by_role("button", name="演一遍").click()
    expect(page.locator(".field.wrong")).to_contain_text("加上节点")
    page.get_by_label("加上节点").fill("")
    page.get_by_label("去掉节点").fill("no-such-node")
    page.get_by_role("button", name="演一遍").click()
    expect(page.locator(".field.wrong")).to_contain_text("没有节点 no-such-node")


def test_stopped(sign_in: SignIn, history: RunningSystem) -> None:
    page = sign_in("/what-if?policy=live,easy,fifo,conservative")
    # 扣着不答：算得再快，停下之前也没有算完。
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/simulate**", hold)
    page.get_by_role("button", name="演一遍").click()
    page.get_by_role("button", name="停下").click()
    expect(page.get_by_role("progressbar")).to_have_count(0)
    assert held
    page.unroute("**/api/simulate**")
    page.get_by_role("button", name="演一遍").click()
    expect(page.locator(".why-lead")).to_be_visible()

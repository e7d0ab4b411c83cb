"""管理页：分区、账户、用户与上限、QOS、预留（在日历上拖）真的改了；写错的标在那一项上；普通用户看不到。"""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from visits import SignIn

from running_system import RunningSystem, wait_until


def fill(page: Page, **texts: str) -> None:
    """对话框里填几项（字段名），保存。"""
    dialog = page.locator("dialog[open]")
    for name, text in texts.items():
        field = dialog.locator(f'[name="{name}"]')
        if field.evaluate("element => element.tagName") == "SELECT":
            field.select_option(text)
        else:
            field.fill(text)
    dialog.get_by_role("button", name="保存").click()


def removed(page: Page, name: str) -> None:
    """删除一条，确认。"""
    page.get_by_role("button", name=f"删除 {name}", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="删除").click()
    expect(page.get_by_role("button", name=f"删除 {name}", exact=True)).to_have_count(0)


def test_partitions(sign_in: SignIn, web_system: RunningSystem) -> None:
    page = sign_in("/admin", expected_faults="422|409")
    page.get_by_role("button", name="新建分区").click()
    fill(page, name="夜间")
    expect(page.locator("dialog[open] .field.wrong")).to_contain_text("名字")
    fill(page, name="night", nodes="node1", max_time="02:00:00", priority_tier="5", allow_accounts="a,b")
    expect(page.locator("dialog[open]")).to_have_count(0)
    row = page.locator("tr", has_text="night")
    expect(row).to_contain_text("2 小时")
    page.get_by_role("button", name="修改 night").click()
    fill(page, max_time="", allow_accounts="")
    expect(row).to_contain_text("不限")
    found = web_system.call("GET", "/partitions/night")[1]
    assert (found["max_time"], found["allow_accounts"], found["priority_tier"]) == (None, None, 5)
    row.get_by_role("button", name="停收作业").click()
    expect(row).to_contain_text("DRAIN")
    removed(page, "night")
    assert web_system.call("GET", "/partitions/night")[0] == 404


def test_accounts_users_limits_and_qos(sign_in: SignIn, web_system: RunningSystem) -> None:
    page = sign_in("/admin?tab=accounts", expected_faults="422|409|404")
    page.get_by_role("button", name="新建账户").click()
    fill(page, name="vision", shares="7", grp_tres="cpu=8,mem=4G", max_wall="1-00:00:00")
    expect(page.locator("tr", has_text="vision")).to_contain_text("合计 cpu=8,mem=4096M")
    page.get_by_role("button", name="关联与上限").click()
    page.get_by_role("button", name="新建关联").click()
    fill(page, account="vision", user="ada", max_jobs="3", max_tres_per_job="wombats=1")
    expect(page.locator("dialog[open] .field.wrong")).to_contain_text("wombats")
    fill(page, max_tres_per_job="cpu=2")
    expect(page.locator("tr", has_text="ada")).to_contain_text("每作业 cpu=2")
    # 账户自己的一行：去掉一种、改一种。
    page.get_by_role("button", name="修改 vision/—").click()
    fill(page, grp_tres="cpu=6")
    expect(page.locator("dialog[open]")).to_have_count(0)

    def own() -> dict[str, Any]:
        rows = web_system.call("GET", "/associations?account=vision&user=")[1]["associations"]
        return rows[0]

    assert (own()["grp_tres"], own()["shares"]) == ({"cpu": 6}, 7)
    page.get_by_role("group", name="管哪一种").get_by_role("button", name="用户").click()
    page.get_by_role("button", name="修改 ada").click()
    fill(page, admin_level="Operator")
    expect(page.locator("tr", has_text="ada")).to_contain_text("Operator")
    page.get_by_role("button", name="QOS", exact=True).click()
    page.get_by_role("button", name="新建QOS").click()
    fill(page, name="high", priority="9", max_tres_per_user="gres/gpu=1")
    expect(page.locator("tr", has_text="high")).to_contain_text("每人 gres/gpu=1")
    removed(page, "high")
    page.get_by_role("group", name="管哪一种").get_by_role("button", name="账户").click()
    removed(page, "vision")
    assert web_system.call("GET", "/accounts/vision")[0] == 404


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=6)
    page.mouse.up()


@pytest.fixture
def _no_reservation_left(web_system: RunningSystem) -> Iterator[None]:
    """它占着全部节点：留下了，后面的测试一个作业也跑不成。"""
    yield
    web_system.call("DELETE", "/reservations/upgrade")


@pytest.mark.usefixtures("_no_reservation_left")
def test_reservation_is_drawn_and_moved_on_the_calendar(sign_in: SignIn, web_system: RunningSystem) -> None:
    page = sign_in("/admin?tab=reservations")
    box = page.locator(".calendar")
    expect(box.locator(".calendar-row")).to_have_count(2)
    edge = box.bounding_box()
    assert edge
    left, top = edge["x"] + edge["width"] * 0.5, edge["y"]
    drag(page, (left, top + 10), (left + 120, top + 40))
    dialog = page.locator("dialog[open]")
    expect(dialog.locator('[name="nodes"]')).to_have_value("node1,node2")
    fill(page, name="upgrade", flags="MAINT", comment="换交换机")
    block = page.locator(".calendar-block")
    expect(block).to_contain_text("upgrade")
    first = web_system.call("GET", "/reservations/upgrade")[1]
    assert first["node_list"] == "node[1-2]"
    # 拖着往后挪：长短不变。对话框关上了才拖得到。
    expect(page.locator("dialog[open]")).to_have_count(0)
    place = block.bounding_box()
    assert place
    middle = (place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    drag(page, middle, (middle[0] + 130, middle[1]))
    fill(page)
    wait_until(lambda: web_system.call("GET", "/reservations/upgrade")[1]["start_time"] != first["start_time"])
    moved = web_system.call("GET", "/reservations/upgrade")[1]
    assert length(moved) == length(first)
    assert moved["start_time"] > first["start_time"]
    # 拖右边：只有结束变了。先等它画到新的地方。
    expect(page.locator("dialog[open]")).to_have_count(0)
    wait_until(lambda: (block.bounding_box() or place)["x"] > place["x"] + 60, what="画到新的地方")
    grip = page.locator(".calendar-edge").bounding_box()
    assert grip
    drag(page, (grip["x"] + 3, grip["y"] + 8), (grip["x"] - 40, grip["y"] + 8))
    fill(page)
    wait_until(lambda: length(web_system.call("GET", "/reservations/upgrade")[1]) < length(moved))
    # 键盘：焦点到它，回车打开。
    block.get_by_role("button").focus()
    page.keyboard.press("Enter")
    fill(page, comment="换好了")
    wait_until(lambda: web_system.call("GET", "/reservations/upgrade")[1]["comment"] == "换好了")
    removed(page, "upgrade")


def length(reservation: dict[str, Any]) -> float:
    start, end = (datetime.fromisoformat(reservation[name]) for name in ("start_time", "end_time"))
    return (end - start).total_seconds()


def test_a_user_sees_403_and_no_data(sign_in: SignIn, web_system: RunningSystem) -> None:
    asked: list[str] = []
    page = sign_in("/", "carol")
    page.on("request", lambda request: asked.append(request.url))
    answer = page.goto(re.sub(r"/[^/]*$", "/admin?tab=config", page.url))
    assert answer
    expect(page.get_by_role("heading", level=1)).to_have_text("403")
    assert "accounting_storage_enforce" not in answer.text() + page.content()
    assert not [url for url in asked if "/api/config" in url]


def test_tokens_are_issued_listed_and_revoked(sign_in: SignIn, web_system: RunningSystem) -> None:
    page = sign_in("/admin?tab=tokens")
    form = page.locator("form.card")
    form.get_by_label("用户").fill("erin")
    form.get_by_label("名字").fill("夜间构建")
    form.get_by_label("范围").select_option("submit")
    form.get_by_label("只管账户").fill("lab")
    form.get_by_role("button", name="签发").click()
    own = replace(web_system, token=page.locator(".issued code").inner_text())
    found = own.call("GET", "/whoami")[1]
    assert (found["user_name"], found["scopes"], found["account"]) == ("erin", ["submit"], "lab")
    row = page.locator("tr", has_text="夜间构建")
    expect(row).to_contain_text("只许提交、lab")
    row.get_by_role("button", name="作废").click()
    page.get_by_role("dialog").get_by_role("button", name="作废").click()
    expect(row).to_contain_text("已作废")
    wait_until(lambda: own.call("GET", "/whoami")[0] == 401, 5, "不认了")
    # 刚才的两件事都在审计里。
    page.get_by_role("button", name="审计").click()
    expect(page.locator("tr", has_text="token.revoke").first).to_contain_text("夜间构建")
    expect(page.locator("tr", has_text="token.create").first).to_contain_text("erin")


def test_what_holds_utilisation_back(sign_in: SignIn, web_system: RunningSystem) -> None:
    """排空的节点、在等它的作业：说会多用多少，照着做的命令。"""
    system = web_system
    system.cancel_everything()
    assert system.call("PATCH", "/nodes/node2", {"state": "DRAIN", "reason": "换风扇"})[0] == 200
    job = system.submit("#!/bin/sh\ntrue\n", required_nodes="node2", cpus_per_task=4, time_limit="60")
    try:
        wait_until(lambda: system.call("GET", f"/jobs/{job}")[1]["reason"] == "ReqNodeNotAvail", what="在等它")
        page = sign_in("/admin?tab=scheduler")
        # 统计写明是什么、什么单位；原来的名字在后面。
        statistics = page.locator("section", has=page.get_by_role("heading", name="统计"))
        expect(statistics.locator("dt", has_text="每分钟几遍")).to_be_visible()
        expect(statistics.locator("dd", has_text="毫秒").first).to_be_visible()
        statistics.get_by_text("全部（sdiag 的名字与单位）").click()
        expect(statistics.get_by_text("bf_cycle_mean", exact=True)).to_be_visible()
        health = page.locator("section", has=page.get_by_role("heading", name="健康"))
        expect(health.locator("dd").first).to_have_text("正常")
        expect(health).not_to_contain_text("ok")
        card = page.get_by_role("region", name="什么压着利用率")
        card.get_by_label("看多久").select_option("14400")
        card.get_by_role("button", name="问调度器").click()
        best = card.locator(".causes li.best")
        expect(best).to_contain_text("换风扇")
        expect(best).to_contain_text("scontrol update NodeName=node2 State=RESUME")
        # 四个 CPU 一小时。
        expect(best.locator("b")).to_have_text("+4")
    finally:
        system.call("PATCH", "/nodes/node2", {"state": "RESUME"})
        system.wait_state(job, "COMPLETED")

"""计划页：甘特图画的就是调度器的计划——指着哪里就说哪个作业，缩放、平移、按分区都作数。"""

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect
from visits import SignIn

from running_system import RunningSystem, wait_until

# 与 gantt.js 的一样：节点名那一栏多宽，刻度多高；“现在”在左起三分之一。
LABEL, HEAD = 120, 28
HOUR_S = 3600


class Chart:
    """页上的甘特图；x 由此刻之后多少秒算出，一行里哪一道都找。"""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.canvas: Locator = page.locator(".gantt canvas")
        self.canvas.wait_for()

    def told(self, after_s: float, word: str, span_s: float = 2 * HOUR_S) -> bool:
        """指着那个时刻，有没有哪一行说的是 word（作业号、预留）：上一个测试同名的作业也许还画着。"""
        box = self.canvas.bounding_box()
        assert box is not None
        x = box["x"] + LABEL + (after_s + span_s / 3) / span_s * (box["width"] - LABEL)
        tip, y = self.page.locator(".gantt .chart-tip b"), box["y"] + HEAD + 4
        while y < box["y"] + box["height"]:
            self.page.mouse.move(x, y)
            if word in " ".join(tip.all_text_contents()).split():
                return True
            y += 6
        return False

    def height(self) -> float:
        box = self.canvas.bounding_box()
        assert box is not None
        return box["height"]


def eventually(page: Page, found: object) -> None:
    """页上的数据要几秒才新；等的时候让浏览器走。"""
    deadline = time.monotonic() + 60
    while not found():  # type: ignore[operator]
        assert time.monotonic() < deadline, "没有等到"
        page.wait_for_timeout(300)


@pytest.fixture
def planned(web_system: RunningSystem) -> Iterator[dict[str, str]]:
    """两个节点各被占满二十分钟，一个要两个节点的在等；一个小时之后有预留；一个只有 node1 的分区。"""
    system = web_system
    system.cancel_everything()
    assert system.call("POST", "/partitions", {"name": "half", "nodes": "node1"})[0] == 201
    reservation = {"name": "plan-band", "nodes": "node2", "start_time": "now+70minutes", "duration": "20"}
    assert system.call("POST", "/reservations", {**reservation, "users": ["ada"]})[0] == 201
    busy = {"cpus_per_task": 4, "time_limit": "20", "memory_per_node": "100M"}
    jobs = {
        f"占着-{node}": system.submit("#!/bin/sh\nsleep 600\n", name=f"占着-{node}", required_nodes=node, **busy)
        for node in ("node1", "node2")
    }
    for job in jobs.values():
        system.wait_state(job, "RUNNING")
    wanted = {"nodes": "2", "tasks": 2, "cpus_per_task": 4, "time_limit": "10", "memory_per_node": "100M"}
    jobs["等着"] = system.submit("#!/bin/sh\ntrue\n", name="等着", **wanted)
    wait_until(
        lambda: jobs["等着"] in [row["job_id"] for row in system.call("GET", "/schedule")[1]["schedule"]],
        what="进了调度器的计划",
    )
    yield jobs
    system.cancel_everything()
    system.call("DELETE", "/reservations/plan-band")
    system.call("DELETE", "/partitions/half")


def test_the_chart_is_the_schedulers_plan(sign_in: SignIn, planned: dict[str, str]) -> None:
    page = sign_in("/plan")
    chart = Chart(page)
    for job in (planned["占着-node1"], planned["占着-node2"]):
        # 描到时限：十分钟之后还在，四十分钟之后不在了。
        eventually(page, lambda job=job: chart.told(600, job))
        assert not chart.told(2400, job)
    # 在等的：二十分钟之后开始。
    assert chart.told(1500, planned["等着"])
    assert not chart.told(600, planned["等着"])
    assert chart.told(4500, "plan-band")
    row = page.locator(".my-jobs li", has_text=planned["等着"])
    expect(row).to_contain_text("等着")
    expect(row).to_contain_text("8 CPU")
    expect(row).to_contain_text("node1、node2")


def test_zoom_pan_and_open(sign_in: SignIn, planned: dict[str, str]) -> None:
    page = sign_in("/plan")
    chart = Chart(page)
    first = planned["占着-node1"]
    eventually(page, lambda: chart.told(600, first))
    # 六小时：同一个时刻到了别处。
    page.get_by_role("button", name="六小时").click()
    assert chart.told(600, first, 6 * HOUR_S)
    assert not chart.told(600, first)
    # 键盘：放大、平移，再回来。
    page.get_by_role("button", name="两小时").click()
    chart.canvas.focus()
    page.keyboard.press("+")
    expect(page.get_by_role("button", name="两小时")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="两小时").click()
    back = page.get_by_role("button", name="回到现在")
    expect(back).to_have_count(0)
    chart.canvas.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    expect(back).to_be_visible()
    # 图往左移了，原来那里已经是后面的事。
    assert not chart.told(600, first)
    back.click()
    expect(back).to_have_count(0)
    assert chart.told(600, first)
    # 拖着也是平移。
    box = chart.canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 700, box["y"] + 12)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 12, steps=4)
    page.mouse.up()
    expect(back).to_be_visible()
    back.click()

    def opened() -> bool:
        if chart.canvas.count():
            assert chart.told(600, first)
            page.mouse.down()
            page.mouse.up()
            page.wait_for_timeout(300)
        return page.url.endswith(f"/jobs/{first}")

    # 点一下就到那个作业；机器忙时正好冒出一条横幅，图会往下挪，再点一次。
    eventually(page, opened)
    page.go_back()
    expect(chart.canvas).to_be_visible()


def test_one_partition(sign_in: SignIn, planned: dict[str, str]) -> None:
    page = sign_in("/plan")
    chart = Chart(page)
    first, second = planned["占着-node1"], planned["占着-node2"]
    eventually(page, lambda: chart.told(600, second))
    whole = chart.height()
    page.get_by_label("分区").select_option("half")
    page.wait_for_url("**/plan?partition=half")
    eventually(page, lambda: chart.height() < whole)
    assert chart.told(600, first)
    assert not chart.told(600, second)
    page.reload()
    eventually(page, lambda: chart.told(600, first))
    assert not chart.told(600, second)

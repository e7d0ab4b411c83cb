"""用量页：合计、CSV、要得多用得少的、上限、公平份额的树，都与 API 说的一样。"""

import csv
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from visits import SignIn

from running_system import RunningSystem, as_user, wait_until


@pytest.fixture(scope="module")
def used(web_system: RunningSystem) -> Iterator[RunningSystem]:
    """两个账户（=cmd 的名字像公式）、三个人用过；多因子的优先级；一个上限正用满。"""
    system = web_system
    system.cancel_everything()
    for name, shares, limits in (("uplot", 3, {}), ("udemo", 1, {"grp_tres": {"cpu": 4}, "grp_jobs": 8})):
        body = {"name": name, "shares": shares, **limits}
        assert system.call("POST", "/accounts", body)[0] == 201, body
    for user, account in (("uma", "uplot"), ("ugo", "uplot"), ("ulf", "udemo")):
        assert system.call("POST", "/associations", {"account": account, "user": user, "max_jobs": 5})[0] == 201
    settings = {"priority_type": "multifactor", "priority_calc_period_s": 1}
    assert system.call("POST", "/cluster/apply", {"settings": settings})[0] == 200
    done = [
        as_user(system, "uma").submit("#!/bin/sh\nsleep 2\n", account="uplot", cpus_per_task=4, time_limit="60"),
        as_user(system, "ugo").submit(
            "#!/bin/sh\nsleep 1\n", account="uplot", cpus_per_task=2, time_limit="60", tres_per_node="gpu:1"
        ),
    ]
    for job in done:
        system.wait_state(job, "COMPLETED")
    running = as_user(system, "ulf").submit("#!/bin/sh\nsleep 600\n", account="udemo", cpus_per_task=4)
    system.wait_state(running, "RUNNING")

    def counted() -> bool:
        rows = system.call("GET", "/reports/usage?since=now-7day")[1]["usage"]
        users = {row["user_name"]: row["jobs"] for row in rows}
        shares = system.call("GET", "/shares")[1]
        names = {each["name"] for each in shares.get("accounts", ())}
        return users.get("uma") == users.get("ugo") == users.get("ulf") == 1 and {"uplot", "udemo"} <= names

    wait_until(counted, 90, "用量算进来了")
    yield system
    system.cancel_everything()
    assert system.call("POST", "/cluster/apply?prune=true", {"settings": {}})[0] == 200
    for name in ("uplot", "udemo"):
        wait_until(lambda name=name: system.call("DELETE", f"/accounts/{name}")[0] < 300, 60, "删掉账户")


def total(page: Page, key: str) -> list[str]:
    """合计的表里那一行的各格。"""
    table = page.get_by_role("region", name="合计的表")
    row = table.locator("tr", has=page.locator("b", has_text=re.compile(f"^{key}$")))
    expect(row).to_have_count(1)
    return [text.strip() for text in row.locator("td").all_text_contents()]


def test_totals_by_account_user_partition_and_qos(sign_in: SignIn, used: RunningSystem) -> None:
    page = sign_in("/usage")
    assert total(page, "uplot")[1] == "2"
    # 地址栏里有，刷新、后退都在。
    page.get_by_role("group", name="按什么合计").get_by_role("button", name="用户").click()
    page.wait_for_url("**/usage?by=user_name*")
    assert total(page, "uma")[1] == "1"
    rows = used.call("GET", "/reports/usage?since=now-7day")[1]["usage"]
    asked = sum(row["cpu_s"] for row in rows if row["user_name"] == "uma") / 3600
    assert float(total(page, "uma")[2]) == pytest.approx(asked, abs=0.02)
    names = page.get_by_role("region", name="合计的表").locator("tbody b").all_text_contents()
    assert names.index("uma") < names.index("ugo")
    for group, word in (("partition", "main"), ("qos", "normal")):
        page.goto(page.url.split("?")[0] + f"?by={group}")
        assert int(total(page, word)[1].replace(",", "")) >= 3
    page.get_by_role("group", name="多久").get_by_role("button", name="一天").click()
    page.wait_for_url("**span=1day*")
    assert int(total(page, "normal")[1].replace(",", "")) >= 3
    # 图说的是同一种分法。
    expect(page.locator("h2", has_text="占用的 CPU，按")).to_contain_text("QOS")
    expect(page.locator(".chart-layer").first).to_be_visible()
    page.get_by_role("group", name="画哪一样").get_by_role("button", name="GPU").click()
    expect(page.locator("h2", has_text="占用的 GPU，按")).to_be_visible()


def test_csv_holds_what_the_table_shows(sign_in: SignIn, used: RunningSystem) -> None:
    page = sign_in("/usage?by=user_name")
    cells = total(page, "uma")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="CSV").click()
    assert waiting.value.suggested_filename == "usage-user_name-7day.csv"
    text = waiting.value.path().read_text("utf-8-sig")
    rows = list(csv.DictReader(text.splitlines()))
    assert list(rows[0]) == ["user_name", "jobs", "cpu_hours", "memory_gib_hours", "node_hours", "gpu_hours"]
    found = {row["user_name"]: row for row in rows}
    assert found["uma"]["jobs"] == cells[1]
    assert float(found["uma"]["cpu_hours"]) == pytest.approx(float(cells[2]), abs=0.01)
    # 用过卡的，有卡的一列。
    assert float(found["ugo"]["gpu_hours"]) > 0 == float(found["uma"]["gpu_hours"])
    expect(page.get_by_role("columnheader", name="GPU 小时")).to_be_visible()
    shown = page.get_by_role("region", name="合计的表").locator("tbody b").all_text_contents()
    assert [row["user_name"] for row in rows] == shown


def test_who_asked_for_more_than_they_used(sign_in: SignIn, used: RunningSystem) -> None:
    page = sign_in("/usage?span=1day")
    table = page.get_by_role("region", name="效率的表")
    row = table.locator("tr", has=page.locator("a", has_text=re.compile("^uma$")))
    expect(row).to_have_count(1)
    cells = [text.strip() for text in row.locator("td").all_text_contents()]
    # 占了四个 CPU 睡觉：几乎没有用，时限也没有用到。
    assert (cells[1], cells[2]) == ("uplot", "1")
    assert int(cells[4].removesuffix("%")) < 20
    assert cells[6] == "0%"
    idle = [float(text.replace(",", "")) for text in table.locator("tbody tr td:nth-child(4)").all_text_contents()]
    assert idle == sorted(idle, reverse=True)
    row.locator("a").click()
    page.wait_for_url("**/jobs?user=uma")
    expect(page.locator("tr.job")).to_have_count(1)


def test_limits_and_how_close_one_is(sign_in: SignIn, used: RunningSystem) -> None:
    page = sign_in("/usage")
    line = page.locator(".limits li", has_text="udemo").filter(has_text="CPU")
    expect(line).to_contain_text("4 / 4")
    expect(line.locator(".meter")).to_have_class(re.compile("near"))
    expect(page.locator(".limits li", has_text="udemo").filter(has_text="运行的作业")).to_contain_text("1 / 8")
    # 普通用户：自己账户的与自己的；别的账户的不列。
    own = sign_in("/usage", user="ulf")
    expect(own.locator(".limits li", has_text="我在 udemo").first).to_contain_text("1 / 5")
    other = sign_in("/usage", user="uma")
    expect(other.locator(".limits li", has_text="我在 uplot").first).to_contain_text("0 / 5")
    expect(other.locator(".limits li", has_text="udemo")).to_have_count(0)


def test_the_fair_share_tree(sign_in: SignIn, used: RunningSystem) -> None:
    page = sign_in("/usage")
    tree = page.get_by_role("region", name="公平份额的树")
    expect(tree.locator("tr", has_text="udemo")).to_be_visible()
    names = tree.locator("tbody tr td:first-child").all_text_contents()
    # 上级在前，成员在它下面；份额多的账户在前。
    assert names.index("uplot") < names.index("udemo")
    assert names.index("uplot") < names.index("uma") < names.index("udemo") < names.index("ulf")
    row = tree.locator("tr", has=page.locator("bdi", has_text=re.compile("^ulf$")))
    expect(row.locator("td").nth(6)).to_have_text(re.compile(r"^[01]\.\d{3}$"))
    # 用得多的那个，条子也长。
    parts = [
        tree.locator("tr", has=page.locator("bdi", has_text=re.compile(f"^{name}$"))).locator("td").nth(4)
        for name in ("uma", "ugo")
    ]
    first, second = (float((cell.text_content() or "").rstrip("%")) for cell in parts)
    assert first > second

"""现行的设置当场改、撤、照启动时的；自己的令牌与 webhook；审计员都看得到、什么也不能改。"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from visits import Receiver, SignIn, token_of, two_days_later

from running_system import RunningSystem
from scns_conductor.web.login_links import create_login_link


@pytest.fixture
def _settings_as_started(web_system: RunningSystem) -> Iterator[None]:
    """留下了运行时改的，后面的测试就不是缺省的系统了。"""
    yield
    assert web_system.call("POST", "/cluster/apply?prune=true", {"settings": {}})[0] == 200


def setting(system: RunningSystem, name: str) -> tuple[Any, Any]:
    """（现行的，运行时改的）；没有改过是 None。"""
    found = system.call("GET", "/config")[1]
    changed = found["changed"].get(name)
    return found["settings"][name], None if changed is None else changed["value"]


def change(page: Page, name: str, text: str) -> None:
    page.get_by_role("button", name=f"修改 {name}", exact=True).click()
    field = page.locator(f'dialog[open] [name="{name}"]')
    if field.evaluate("element => element.tagName") == "SELECT":
        field.select_option(text)
    else:
        field.fill(text)
    page.locator("dialog[open]").get_by_role("button", name="保存").click()


@pytest.mark.usefixtures("_settings_as_started")
def test_settings_are_changed_undone_and_reverted(sign_in: SignIn, web_system: RunningSystem) -> None:
    page = sign_in("/admin?tab=config", expected_faults="422")
    row = page.locator(".settings li", has=page.locator("code", has_text="scheduler_policy"))
    expect(row).to_contain_text("easy")
    change(page, "scheduler_policy", "fifo")
    expect(page.locator("dialog[open]")).to_have_count(0)
    assert setting(web_system, "scheduler_policy") == ("fifo", "fifo")
    expect(row).to_contain_text("fifo")
    expect(row).to_contain_text("运行时改的：root")
    # 十秒之内可以撤：没有改过的，撤了就是又照启动时的。
    page.locator(".toast", has_text="scheduler_policy 改了").get_by_role("button", name="撤销").click()
    expect(row).not_to_contain_text("运行时改的")
    assert setting(web_system, "scheduler_policy") == ("easy", None)
    # 别的种类：数、是否、对照表、列表、字。
    for name, text in (
        ("min_job_age_s", "77"), ("priority_favor_small", "true"), ("priority_weights", "age=1000,tres/cpu=2.5"),
        ("accounting_storage_enforce", "limits,qos"), ("licenses", "matlab:3"),
    ):  # fmt: skip
        change(page, name, text)
        expect(page.locator("dialog[open]")).to_have_count(0)
    found = web_system.call("GET", "/config")[1]["changed"]
    assert {name: one["value"] for name, one in found.items()} == {
        "min_job_age_s": 77, "priority_favor_small": True, "priority_weights": {"age": 1000, "tres/cpu": 2.5},
        "accounting_storage_enforce": ["associations", "limits", "qos"], "licenses": "matlab:3",
    }  # fmt: skip
    assert web_system.call("GET", "/licenses")[1]["licenses"][0]["total"] == 3
    # 写错的标在那一项上，对话框还在。
    change(page, "licenses", "matlab:many")
    expect(page.locator("dialog[open] .field.wrong")).to_contain_text("licenses")
    page.locator("dialog[open]").get_by_role("button", name="不").click()
    # 去掉一项，别的都还在。
    page.get_by_role("button", name="照启动时的 licenses", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="照启动时的").click()
    expect(page.get_by_role("button", name="照启动时的 licenses", exact=True)).to_have_count(0)
    assert setting(web_system, "licenses") == ("", None)
    assert setting(web_system, "min_job_age_s") == (77, 77)
    # 启动时定的只看。
    expect(page.locator(".facts dt", has_text="node_timeout_s")).to_be_visible()
    assert page.get_by_role("button", name="修改 node_timeout_s").count() == 0


def test_an_operator_sees_settings_but_cannot_change_them(sign_in: SignIn, web_system: RunningSystem) -> None:
    page = sign_in_as(sign_in, web_system, "olga", "operator", "/admin?tab=config")
    expect(page.locator(".settings code", has_text="scheduler_policy")).to_be_visible()
    assert page.locator(".setting-buttons").count() == 0


def sign_in_as(sign_in: SignIn, system: RunningSystem, user: str, role: str, path: str, faults: str = "") -> Page:
    """登录成有这个角色的人。"""
    page = sign_in("/", user, expected_faults=faults)
    base = page.url.rstrip("/")
    status, issued = system.call("POST", "/tokens", {"user_name": user, "role": role})
    assert status == 201, issued
    page.goto(create_login_link(system.data_dir, base, issued["token"]))
    page.goto(base + path)
    page.locator("main h1").first.wait_for()
    return page


def test_an_auditor_sees_everything_and_changes_nothing(sign_in: SignIn, web_system: RunningSystem) -> None:
    job_id = web_system.submit("#!/bin/bash\necho 给审计员看\n", name="seen")
    held = web_system.submit("#!/bin/bash\ntrue\n", name="held", hold=True)
    web_system.wait_state(job_id)
    page = sign_in_as(sign_in, web_system, "audrey", "auditor", "/admin?tab=audit")
    base = page.url.partition("/admin")[0]
    expect(page.locator("tr", has_text="token.create").first).to_contain_text("root")
    for tab in ("partitions", "reservations", "accounts", "tokens", "config"):
        page.goto(f"{base}/admin?tab={tab}")
        page.locator("main h2").first.wait_for()
        page.wait_for_function("!document.querySelector('main .bars')")
        for word in ("新建", "修改", "删除", "停收作业", "照启动时的"):
            assert page.get_by_role("button", name=word).count() == 0, (tab, word)
    page.goto(f"{base}/jobs/{job_id}")
    expect(page.locator(".terminal")).to_contain_text("给审计员看")
    page.goto(f"{base}/jobs/{held}")
    expect(page.locator(".page-head .state-PENDING")).to_be_visible()
    assert page.get_by_role("button", name="取消").count() == page.get_by_role("link", name="改了再交").count() == 0
    assert page.locator(".rail").get_by_role("link", name="提交").count() == 0
    web_system.call("POST", f"/jobs/cancel/{held}")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


def test_a_user_keeps_webhooks_and_tokens_alone(sign_in: SignIn, web_system: RunningSystem, receiver: Receiver) -> None:
    own = replace(web_system, token=token_of(web_system, "wanda"))
    page = sign_in("/", "wanda", expected_faults="422|409")
    page.get_by_role("button", name="wanda").click()
    page.get_by_role("link", name="我的令牌与 webhook").click()
    form = page.locator("form.card")
    form.get_by_label("名字").fill("自己用的")
    form.get_by_role("button", name="签发").click()
    expect(page.locator("tr", has_text="自己用的")).to_be_visible()
    issued = replace(web_system, token=page.locator(".issued code").inner_text())
    assert issued.call("GET", "/whoami")[1]["user_name"] == "wanda"
    page.get_by_role("button", name="webhook", exact=True).click()
    page.get_by_role("button", name="新建订阅").click()
    dialog = page.locator("dialog[open]")
    dialog.locator('[name="url"]').fill("http://127.0.0.1:1/")
    dialog.locator('[name="events"]').fill("job.wombat")
    dialog.get_by_role("button", name="保存").click()
    expect(dialog.locator(".field.wrong")).to_contain_text("job.wombat")
    dialog.locator('[name="url"]').fill(f"http://127.0.0.1:{receiver.port}/hook")
    dialog.locator('[name="events"]').fill("job.ended")
    dialog.get_by_role("button", name="保存").click()
    expect(page.locator(".issued-once code")).to_contain_text("whsec_")
    [hook] = own.call("GET", "/webhooks")[1]["webhooks"]
    number = hook["webhook_id"]
    # 试一试：真的送到了。
    page.get_by_role("button", name=f"试一试 {number}", exact=True).click()
    rows = page.locator("section", has=page.get_by_role("heading", name="送了没有")).locator("tbody tr")
    expect(rows.first).to_contain_text("送到了")
    assert receiver.got[0]["type"] == rows.first.locator("b").inner_text()
    # 那边满着：没有送到，为什么；两天之后不再试，是死信；好了，重送。
    row = page.locator("tr", has=page.get_by_role("button", name=f"删除 {number}", exact=True))
    receiver.answer = 503
    page.get_by_role("button", name=f"试一试 {number}", exact=True).click()
    expect(rows.first).to_contain_text("503")
    expect(row).to_contain_text("次没有送到")
    two_days_later(web_system)
    expect(rows.first).to_contain_text("不再试")
    receiver.answer = 204
    page.get_by_role("button", name="重送全部不再试的").click()
    expect(rows.first).to_contain_text("送到了")
    # 那边说不要了（410）：订阅停下；打开。
    receiver.answer = 410
    page.get_by_role("button", name=f"试一试 {number}", exact=True).click()
    expect(row).to_contain_text("停着")
    row.get_by_role("button", name="打开").click()
    expect(row).not_to_contain_text("停着")
    page.get_by_role("button", name=f"删除 {number}", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="删除").click()
    expect(row).to_have_count(0)
    assert own.call("GET", "/webhooks")[1]["webhooks"] == []


def test_the_administrator_sees_everybodys_webhooks(sign_in: SignIn, web_system: RunningSystem) -> None:
    own = replace(web_system, token=token_of(web_system, "walter"))
    status, hook = own.call("POST", "/webhooks", {"url": "http://127.0.0.1:9/walter"})
    assert status == 201, hook
    page = sign_in("/admin?tab=webhooks")
    row = page.locator("tr", has_text="/walter")
    expect(row).to_contain_text("walter")
    row.get_by_role("button", name="停下").click()
    expect(row).to_contain_text("停着")
    assert own.call("GET", f"/webhooks/{hook['webhook_id']}")[1]["active"] is False
    own.call("DELETE", f"/webhooks/{hook['webhook_id']}")

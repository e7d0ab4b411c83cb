"""我管的账户：协调人管自己账户里的人与上限，看不到、也动不了别的账户；普通用户没有这一页。"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from test_web_admin import fill, removed
from visits import SignIn, serious

from running_system import RunningSystem, wait_until


@pytest.fixture
def accounts(web_system: RunningSystem) -> Iterator[RunningSystem]:
    """cora 管 coral（下面有 coral-reef），不管 basalt。"""
    system = web_system
    for body in ({"name": "coral", "grp_jobs": 50}, {"name": "coral-reef", "parent": "coral"}, {"name": "basalt"}):
        assert system.call("POST", "/accounts", body)[0] == 201, body
    for account, user in (("coral", "cora"), ("coral", "finn"), ("basalt", "bert")):
        assert system.call("POST", "/associations", {"account": account, "user": user})[0] == 201
    assert system.call("PUT", "/accounts/coral/coordinators/cora")[0] == 204
    yield system
    for name in ("coral", "basalt"):
        wait_until(lambda name=name: system.call("DELETE", f"/accounts/{name}")[0] in (200, 404), 60, "删掉账户")


def table(page: Page, name: str):  # type: ignore[no-untyped-def]
    return page.locator("section.card", has=page.get_by_role("heading", name=name))


def test_a_coordinator_manages_the_members(sign_in: SignIn, accounts: RunningSystem) -> None:
    page = sign_in("/", user="cora", expected_faults="403|409|422|404")
    page.get_by_role("navigation", name="主导航").get_by_role("link", name="账户").click()
    page.wait_for_url("**/accounts")
    chips = page.get_by_role("group", name="哪个账户").get_by_role("button")
    expect(chips).to_have_text(["coral", "coral-reef"])
    members = table(page, "里面的人与上限")
    # 添一个人，改他的上限。
    members.get_by_role("button", name="新建关联").click()
    fill(page, user="gil", max_jobs="3", max_tres_per_job="wombats=1")
    expect(page.locator("dialog[open] .field.wrong")).to_contain_text("wombats")
    fill(page, max_tres_per_job="cpu=2")
    expect(members.locator("tr", has_text="gil")).to_contain_text("每作业 cpu=2")
    members.get_by_role("button", name="修改 coral/gil").click()
    fill(page, max_jobs="7", shares="4")
    expect(page.locator("dialog[open]")).to_have_count(0)
    (row,) = accounts.call("GET", "/associations?account=coral&user=gil")[1]["associations"]
    assert (row["max_jobs"], row["shares"], row["max_tres_per_job"]) == (7, 4, {"cpu": 2})
    # 移出去。
    removed(page, "coral/gil")
    assert accounts.call("GET", "/associations?account=coral&user=gil")[1]["associations"] == []
    # 自己账户自己的上限由上级的人管：没有按钮；下级的有。
    expect(members).not_to_contain_text("（账户自己）")
    expect(table(page, "账户").get_by_role("button", name="修改 coral", exact=True)).to_have_count(0)
    chips.nth(1).click()
    page.wait_for_url("**/accounts?account=coral-reef")
    members.get_by_role("button", name="修改 coral-reef/—").click()
    fill(page, grp_jobs="9")
    expect(page.locator("dialog[open]")).to_have_count(0)
    (own,) = accounts.call("GET", "/associations?account=coral-reef&user=")[1]["associations"]
    assert own["grp_jobs"] == 9


def test_a_coordinator_adds_accounts_and_coordinators_below(sign_in: SignIn, accounts: RunningSystem) -> None:
    page = sign_in("/accounts?account=coral", user="cora", expected_faults="403|409|422|404")
    page.get_by_role("button", name="新建账户").click()
    fill(page, name="coral-atoll", max_wall="02:00:00")
    expect(page.get_by_role("group", name="哪个账户").get_by_role("button")).to_have_text(
        ["coral", "coral-atoll", "coral-reef"]
    )
    assert accounts.call("GET", "/accounts/coral-atoll")[1]["parent"] == "coral"
    page.locator('[name="coordinator"]').fill("finn")
    page.get_by_role("button", name="添协调人").click()
    expect(page.get_by_role("button", name="去掉协调人 finn")).to_be_visible()
    assert accounts.call("GET", "/accounts/coral")[1]["coordinators"] == ["cora", "finn"]
    page.get_by_role("button", name="去掉协调人 finn").click()
    page.get_by_role("dialog").get_by_role("button", name="去掉").click()
    expect(page.get_by_role("button", name="去掉协调人 finn")).to_have_count(0)
    assert accounts.call("GET", "/accounts/coral")[1]["coordinators"] == ["cora"]
    # 没有关联的人不行，话说得出来。
    page.locator('[name="coordinator"]').fill("stranger")
    page.get_by_role("button", name="添协调人").click()
    expect(page.locator(".toast.error")).to_contain_text("stranger")
    page.get_by_role("group", name="哪个账户").get_by_role("button", name="coral-atoll").click()
    removed(page, "coral-atoll")
    assert accounts.call("GET", "/accounts/coral-atoll")[0] == 404


def test_a_coordinator_sees_nothing_of_other_accounts(sign_in: SignIn, accounts: RunningSystem) -> None:
    received: list[str] = []
    page = sign_in("/", user="cora")
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(str(frame))))
    # 指着别人的账户来：给的是自己的。
    page.goto(page.url.rstrip("/") + "/accounts?account=basalt")
    expect(page.get_by_role("button", name="修改 coral/finn")).to_be_visible()
    expect(page.locator("#content")).not_to_contain_text("basalt")
    expect(page.locator("#content")).not_to_contain_text("bert")
    assert any("finn" in frame for frame in received)
    assert not any("bert" in frame or "basalt" in frame for frame in received)


@pytest.mark.parametrize("user", ["finn", "bert"])
def test_a_user_has_no_such_page(sign_in: SignIn, accounts: RunningSystem, user: str) -> None:
    page = sign_in("/accounts", user=user)
    expect(page.get_by_role("heading", name="403")).to_be_visible()
    expect(page.locator("#content")).not_to_contain_text("coral")
    expect(page.get_by_role("link", name="账户")).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessible_and_narrow(sign_in: SignIn, accounts: RunningSystem, axe_script: str, theme: str) -> None:
    page = sign_in("/accounts", user="cora", color_scheme=theme)
    expect(page.get_by_role("button", name="修改 coral/finn")).to_be_visible()
    assert serious(page, axe_script) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_administrator_manages_the_same_rows(sign_in: SignIn, accounts: RunningSystem) -> None:
    page = sign_in("/admin?tab=accounts")
    page.get_by_role("button", name="关联与上限").click()
    expect(page.get_by_role("button", name="修改 basalt/bert")).to_be_visible()
    expect(page.get_by_role("button", name="修改 coral/—")).to_be_visible()

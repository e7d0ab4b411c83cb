"""别的页：提交到结束、节点的排空、明暗与英文、无障碍、手机的宽度。"""

import re

from playwright.sync_api import Route, expect
from visits import SignIn, serious, visit

from running_system import RunningSystem, wait_until

ADMIN = ("reservations", "accounts", "tokens", "webhooks", "audit", "scheduler", "config")
PAGES = [
    "/", "/jobs", "/submit", "/nodes", "/nodes/node1", "/plan", "/usage", "/what-if", "/me", "/me?tab=webhooks",
    "/admin", *(f"/admin?tab={tab}" for tab in ADMIN),
]  # fmt: skip


def test_submit_follow_to_the_end(sign_in: SignIn, web_system: RunningSystem) -> None:
    page = sign_in("/submit")
    script = page.get_by_label("脚本", exact=True)
    folder = web_system.data_dir
    script.fill(f"#!/bin/bash\n#SBATCH --job-name=from-web\n#SBATCH --chdir={folder}\necho 从浏览器来\n")
    expect(page.get_by_label("名字")).to_have_value("from-web")
    page.get_by_label("每任务 CPU").fill("2")
    page.get_by_label("每任务 CPU").press("Tab")
    header = f"#!/bin/bash\n#SBATCH --job-name=from-web\n#SBATCH --chdir={folder}\n"
    expect(script).to_have_value(f"{header}#SBATCH --cpus-per-task=2\necho 从浏览器来\n")
    expect(page.locator(".plan-answer.good")).to_contain_text("现在就能开始")
    page.get_by_role("button", name="提交作业").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("from-web")
    expect(page.locator(".terminal")).to_contain_text("从浏览器来")
    expect(page.locator(".page-head .state-COMPLETED")).to_be_visible()
    job_id = page.url.rpartition("/")[2]
    job = web_system.call("GET", f"/jobs/{job_id}")[1]
    assert (job["cpus_per_task"], job["data_source"]) == (2, "WEB")


def test_mistakes_are_told_at_the_field(sign_in: SignIn) -> None:
    page = sign_in("/submit", expected_faults="422|400")
    page.get_by_label("每任务 CPU").fill("4000")
    page.get_by_label("每任务 CPU").press("Tab")
    expect(page.locator(".field.wrong, .plan-card .field-error").first).to_be_visible()
    page.get_by_label("脚本", exact=True).fill("#!/bin/bash\n#SBATCH --time=abc\n")
    expect(page.get_by_role("alert").first).to_contain_text("--time")
    expect(page.get_by_role("button", name="提交作业")).to_be_disabled()


def test_what_is_being_typed_is_not_taken_back(sign_in: SignIn) -> None:
    """读脚本的回答来得晚：正填着的一项不被改回去。"""
    page = sign_in("/")
    held: list[Route] = []
    page.route("**/header", lambda route: route.continue_() if held else held.append(route))
    page.goto(f"{page.url.rstrip('/')}/submit")
    field = page.get_by_label("每任务 CPU")
    field.fill("2")
    assert page.evaluate("document.activeElement.name") == "cpus_per_task"
    held[0].continue_()
    # 这个回答用上了：脚本里的名字填进了表单。
    expect(page.get_by_label("名字", exact=True)).to_have_value("hello")
    expect(field).to_have_value("2")
    field.press("Tab")
    expect(page.get_by_label("脚本", exact=True)).to_have_value(re.compile(r"--cpus-per-task=2\n"))
    expect(page.locator(".plan-answer.good")).to_be_visible()
    expect(field).to_have_value("2")


def test_a_first_job_without_the_mouse(sign_in: SignIn, web_system: RunningSystem) -> None:
    """没有单位的数写明是多少；编辑框里按 Tab 缩进，按 Esc 再按 Tab 离开；Ctrl+Enter 交。"""
    page = sign_in("/submit", "ada")
    script = page.get_by_label("脚本", exact=True)
    script.focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("#!/bin/bash\n#SBATCH --job-name=by-keys --time=90 --mem=100\n")
    page.keyboard.press("Tab")
    page.keyboard.type(f"cd {web_system.data_dir}; echo done")
    expect(script).to_have_value(re.compile(r"\n  cd "))
    field = page.locator(".field")
    expect(field.filter(has_text="时限")).to_contain_text("就是 1 小时 30 分")
    expect(field.filter(has_text="每节点内存")).to_contain_text("就是 100 MiB")
    expect(page.locator("#editor-keys")).to_contain_text("Esc")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    expect(script).not_to_be_focused()
    page.get_by_label("时限").fill("5")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("by-keys")
    job = web_system.call("GET", "/jobs/" + page.url.rpartition("/")[2])[1]
    assert (job["user_name"], job["time_limit"], job["memory_per_node"]) == ("ada", 300, 100)


def test_draft_is_kept(sign_in: SignIn) -> None:
    page = sign_in("/submit")
    text = "#!/bin/bash\n# 写到一半\n"
    page.get_by_label("脚本", exact=True).fill(text)
    page.wait_for_function("text => localStorage.getItem('scns_draft') === text", arg=text)
    page.reload()
    expect(page.get_by_label("脚本", exact=True)).to_have_value(text)
    expect(page.get_by_text("接着上次没有交的草稿")).to_be_visible()


def test_resubmit_keeps_what_was_asked(sign_in: SignIn, web_system: RunningSystem) -> None:
    job_id = web_system.submit("#!/bin/bash\ntrue\n", name="again", cpus_per_task=3, time_limit="25")
    web_system.wait_state(job_id)
    page = sign_in(f"/jobs/{job_id}")
    page.get_by_role("link", name="改了再交").click()
    expect(page.get_by_label("每任务 CPU")).to_have_value("3")
    expect(page.get_by_label("时限")).to_have_value("0:25:00")
    expect(page.get_by_label("名字")).to_have_value("again")


def test_drain_and_resume_a_node(sign_in: SignIn, web_system: RunningSystem) -> None:
    page = sign_in("/nodes/node2")
    page.get_by_role("button", name="排空").click()
    page.get_by_label("原因").fill("换风扇")
    page.get_by_role("dialog").get_by_role("button", name="排空").click()
    expect(page.locator(".notice")).to_contain_text("换风扇")
    assert web_system.call("GET", "/nodes/node2")[1]["drain"] is True
    page.get_by_role("button", name="恢复").click()
    wait_until(lambda: web_system.call("GET", "/nodes/node2")[1]["drain"] is False)
    expect(page.get_by_role("button", name="排空")).to_be_visible()
    # 出过的事，新的在前，留着原因。
    history = page.locator("section", has=page.get_by_role("heading", name="出过的事")).locator("li")
    expect(history.nth(0)).to_contain_text("不再排空")
    expect(history.nth(1)).to_contain_text("排空 换风扇")
    found = web_system.call("GET", "/nodes/node2/events?limit=2")[1]["events"]
    # 还有别的测试的作业占着的，只是开始排空。
    assert [one["reason"] for one in found] == [None, "换风扇"]
    assert [one["event"].replace("draining", "drained") for one in found] == ["resumed", "drained"]
    assert web_system.call("GET", "/nodes/no-such-node/events")[0] == 404


def test_cores_and_cards_of_a_node_lead_to_their_jobs(sign_in: SignIn, web_system: RunningSystem) -> None:
    job = {"cpus_per_task": 3, "tres_per_node": "gres/gpu:1", "required_nodes": "node1", "account": "vision"}
    job_id = web_system.submit("#!/bin/bash\nsleep 600\n", name="占着", **job)
    web_system.wait_state(job_id, "RUNNING")
    page = sign_in("/nodes/node1")
    expect(page.locator(".cores.core > *")).to_have_count(4)
    own = f'a[href="/jobs/{job_id}"]'
    expect(page.locator(f".cores.core {own}")).to_have_count(3)
    expect(page.locator(".cores.gpu > *")).to_have_count(2)
    expect(page.locator(f".cores.gpu {own}")).to_have_count(1)
    page.locator(f".cores.gpu {own}").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("占着")
    web_system.call("POST", f"/jobs/cancel/{job_id}")
    web_system.wait_state(job_id)


def test_node_map_opens_a_node(sign_in: SignIn) -> None:
    page = sign_in("/nodes")
    canvas = page.locator(".node-map canvas")
    expect(canvas).to_be_visible()
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("node1")


def test_user_cannot_drain(sign_in: SignIn) -> None:
    page = sign_in("/nodes/node1", "ada")
    expect(page.get_by_role("heading", level=1)).to_have_text("node1")
    assert page.get_by_role("button", name="排空").count() == 0
    assert page.get_by_role("link", name="管理").count() == 0


def test_accessible(sign_in: SignIn, web_system: RunningSystem, axe_script: str) -> None:
    """每一页没有严重的毛病；换成深色只是颜色换了，所以再看一遍对比。"""
    job_id = web_system.submit(
        "#!/bin/bash\n#SBATCH -J axe\necho -e '\\e[32mgreen\\e[0m \\e[33myellow\\e[0m'\n", name="axe"
    )
    web_system.wait_state(job_id)
    page = sign_in("/")
    for path in [*PAGES, f"/jobs/{job_id}"]:
        visit(page, path)
        assert serious(page, axe_script) == [], path
        page.get_by_role("button", name="用深色").click()
        assert serious(page, axe_script, "{ type: 'rule', values: ['color-contrast'] }") == [], (path, "深色")
        page.get_by_role("button", name="用浅色").click()


def test_phone_width(sign_in: SignIn, web_system: RunningSystem) -> None:
    web_system.wait_state(web_system.submit("#!/bin/bash\ntrue\n", name="a-rather-long-job-name-" + "x" * 60))
    page = sign_in("/jobs")
    page.set_viewport_size({"width": 390, "height": 844})
    for path in PAGES:
        visit(page, path)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, path
        # 一排里选一个的：字不竖着写。
        assert (
            page.evaluate("Math.max(0, ...[...document.querySelectorAll('.tab')].map((one) => one.offsetHeight))") < 36
        )
    # 底下的一排都看得见，最末的是管理。
    last = page.locator(".rail-link").last.bounding_box()
    assert last
    assert last["x"] + last["width"] <= 390


def test_back_and_titles(sign_in: SignIn) -> None:
    page = sign_in("/")
    page.get_by_role("link", name="节点", exact=True).first.click()
    expect(page).to_have_title("节点 · scns")
    page.get_by_role("link", name="作业", exact=True).first.click()
    expect(page).to_have_title("作业 · scns")
    page.go_back()
    expect(page).to_have_title("节点 · scns")
    # 没有的路径：说没有这一页，左栏还在。
    page.goto(page.url.replace("/nodes", "/nowhere"))
    expect(page.get_by_role("heading", level=1)).to_have_text("404")
    page.get_by_role("link", name="回总览").click()
    expect(page).to_have_title("总览 · scns")


def test_array_and_dependency_builders_write_the_lines(sign_in: SignIn, web_system: RunningSystem) -> None:
    earlier = web_system.submit("#!/bin/bash\ntrue\n", name="先跑的", hold=True)
    page = sign_in("/submit")
    script = page.get_by_label("脚本", exact=True)
    page.get_by_role("button", name="更多").click()
    box = page.get_by_role("group", name="数组")
    box.get_by_label("从").fill("1")
    box.get_by_label("到", exact=True).fill("20")
    box.get_by_label("到", exact=True).press("Tab")
    expect(script).to_have_value(re.compile(r"#SBATCH --array=1-20\n"))
    box.get_by_label("同时至多").fill("4")
    box.get_by_label("同时至多").press("Tab")
    expect(script).to_have_value(re.compile(r"#SBATCH --array=1-20%4\n"))
    expect(box).to_contain_text("20 个任务")
    waits = page.get_by_role("group", name="依赖")
    waits.get_by_label("等一个我的作业").select_option(earlier)
    expect(script).to_have_value(re.compile(rf"#SBATCH --dependency=afterok:{earlier}\n"))
    waits.get_by_label("怎样了之后").select_option("afterany")
    expect(script).to_have_value(re.compile(rf"#SBATCH --dependency=afterany:{earlier}\n"))
    waits.get_by_role("button", name="去掉").click()
    expect(script).not_to_have_value(re.compile("--dependency"))
    web_system.call("POST", f"/jobs/cancel/{earlier}")

"""作业的列表与作业页：真的数据，真的动作。"""

import re

from playwright.sync_api import Page, expect
from visits import SignIn

from running_system import RunningSystem, wait_until

ODD_NAME = '<img src=x onerror="document.title=1"> \u202etxt.exe 🎉'


def test_list_filters_sorts_and_keeps_it_in_the_address(sign_in: SignIn, web_system: RunningSystem) -> None:
    names = [f"filter-{index}" for index in range(3)]
    for name in names:
        web_system.wait_state(web_system.submit("#!/bin/bash\ntrue\n", name=name, account="alpha"))
    page = sign_in("/jobs")
    page.get_by_role("button", name="条件").click()
    page.get_by_label("名字").fill("filter-1,filter-2")
    page.get_by_label("名字").press("Tab")
    expect(page.locator("tr.job")).to_have_count(2)
    assert "name=filter-1" in page.url
    page.locator("th .sort").first.click()
    expect(page.locator("tr.job .job-name").first).to_have_text("filter-1")
    page.reload()
    expect(page.locator("tr.job .job-name").first).to_have_text("filter-1")
    page.get_by_role("button", name="列", exact=True).click()
    page.get_by_label("账户").last.check()
    expect(page.locator("td.column-account").first).to_have_text("alpha")
    page.locator("tr.job a").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("filter-1")
    page.go_back()
    expect(page.locator("tr.job")).to_have_count(2)


def test_a_condition_half_typed_is_kept_when_the_list_changes(sign_in: SignIn, web_system: RunningSystem) -> None:
    page = sign_in("/jobs?name=half-typed")
    expect(page.locator(".nothing")).to_be_visible()
    page.get_by_label("账户").press_sequentially("alp")
    job_id = web_system.submit("#!/bin/bash\ntrue\n", name="half-typed", account="alpha", hold=True)
    expect(page.locator("tr.job")).to_have_count(1)
    page.get_by_label("账户").press_sequentially("ha")
    page.get_by_label("账户").press("Tab")
    page.wait_for_url("**account=alpha*")
    expect(page.locator("tr.job")).to_have_count(1)
    web_system.call("POST", f"/jobs/cancel/{job_id}")


def test_array_is_one_row_with_progress(sign_in: SignIn, web_system: RunningSystem) -> None:
    array = web_system.submit("#!/bin/bash\n[ $SLURM_ARRAY_TASK_ID != 2 ]\n", name="folded", array="0-5")

    def all_done() -> bool:
        rows = web_system.call("GET", f"/jobs/arrays?job_id={array}")[1]["arrays"]
        return bool(rows and rows[0]["done"] == 6)

    wait_until(all_done)
    page = sign_in("/jobs?name=folded")
    expect(page.locator("tr.job")).to_have_count(1)
    expect(page.locator(".array")).to_contain_text("6 / 6")
    page.locator(".array").click()
    expect(page.locator("tr.job")).to_have_count(6)
    expect(page.locator(".state-FAILED").first).to_be_visible()


def test_array_on_its_own_page_and_the_failed_again(sign_in: SignIn, web_system: RunningSystem) -> None:
    array = web_system.submit(
        "#!/bin/bash\n[[ $SLURM_ARRAY_TASK_ID != [1235] ]]\n", name="sweep", array="0-7%4", time_limit="5"
    )
    wait_until(lambda: web_system.call("GET", f"/jobs/arrays?job_id={array}")[1]["arrays"][0]["done"] == 8)
    page = sign_in(f"/jobs/{array}_6")
    card = page.get_by_role("region", name="数组")
    expect(card).to_contain_text("8 / 8 个任务结束了")
    card.get_by_role("link", name="下一个任务").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"{array}_7")
    assert card.get_by_role("link", name="下一个任务").count() == 0
    card.get_by_role("link", name="失败 4").click()
    expect(page.locator("tr.job")).to_have_count(4)
    page.go_back()
    card.get_by_role("link", name="没有成的 4 个再交一次").click()
    # 作业页上也有一处叫「脚本」，不是能填的。
    expect(page.get_by_role("heading", level=1)).to_have_text("提交")
    expect(page.get_by_label("脚本", exact=True)).to_have_value(re.compile(r"#SBATCH --array=1-3,5%4\n"))
    expect(page.get_by_label("时限")).to_have_value("0:05:00")


def test_bulk_action_counts_before_it_acts(sign_in: SignIn, web_system: RunningSystem) -> None:
    jobs = [web_system.submit("#!/bin/bash\ntrue\n", name="bulk", hold=True) for _ in range(3)]
    page = sign_in("/jobs?name=bulk&state=PENDING")
    expect(page.locator("tr.job")).to_have_count(3)
    page.get_by_label("选中这一页").check()
    page.get_by_role("button", name="取消", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("3 个作业")
    dialog.get_by_role("button", name="不").click()
    assert all(web_system.query(job_id)["state"] == "PENDING" for job_id in jobs)
    page.get_by_role("button", name="取消", exact=True).click()
    dialog.get_by_role("button", name="取消 3 个作业").click()
    for job_id in jobs:
        web_system.wait_state(job_id, "CANCELLED")
    expect(page.get_by_role("status").filter(has_text="已取消 3 个作业")).to_be_visible()


def test_live_output_with_colours_then_download(sign_in: SignIn, web_system: RunningSystem) -> None:
    gate = web_system.data_dir / "web-gate"
    script = (
        "#!/bin/bash\necho -e '\\e[31m红的\\e[0m 第一行'\n"
        f"while [ ! -e {gate} ]; do sleep 0.1; done\necho '最后一行'\nprintf 'a\\x00b\\xff\\n'\n"
    )
    job_id = web_system.submit(script, name="live")
    web_system.wait_state(job_id, "RUNNING")
    page = sign_in(f"/jobs/{job_id}")
    red = page.locator(".log-line span", has_text="红的").last
    expect(red).to_be_visible()
    assert "rgb(179, 38, 30)" in red.evaluate("(element) => getComputedStyle(element).color")
    gate.touch()
    expect(page.locator(".terminal")).to_contain_text("最后一行")
    expect(page.locator(".page-head .state-COMPLETED")).to_be_visible()
    page.get_by_label("在输出里找").fill("最后")
    expect(page.locator(".log-line.hit")).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("link", name="下载全部").click()
    assert download.value.suggested_filename == f"live-{job_id}.stdout.txt"
    assert "最后一行" in download.value.path().read_text(errors="replace")


def test_usage_curve_is_live_and_stays_afterwards(sign_in: SignIn, web_system: RunningSystem) -> None:
    script = "#!/bin/bash\nhead -c 80M /dev/zero | tail -c 80M | (sleep 300; wc -c) &\nwhile :; do :; done\n"
    job_id = web_system.submit(script, name="busy", cpus_per_task=2, memory_per_node="1G", time_limit="60")
    web_system.wait_state(job_id, "RUNNING")
    page = sign_in(f"/jobs/{job_id}")
    curve = page.locator(".usage-curve")
    expect(curve.get_by_role("img", name="用量随时间的变化：CPU")).to_be_visible()
    first = curve.locator("polygon").get_attribute("points")
    expect(curve.locator("polygon")).not_to_have_attribute("points", first or "")
    # 还在运行就说得出用了多少。
    expect(page.locator(".pair", has_text="内存")).to_contain_text("/ 1 GiB")
    curve.get_by_role("button", name="内存").click()
    peak = curve.locator(".hint")
    expect(peak).to_contain_text("/ 1 GiB")
    curve.locator(".chart-box").hover()
    expect(curve.locator(".chart-tip")).to_contain_text("MiB")
    web_system.call("POST", f"/jobs/cancel/{job_id}")
    web_system.wait_state(job_id)
    expect(page.locator(".page-head .state-CANCELLED")).to_be_visible()
    page.reload()
    expect(curve.get_by_role("img")).to_be_visible()
    expect(page.locator(".pair", has_text="内存")).to_contain_text("就够")


def test_odd_names_are_only_text(sign_in: SignIn, web_system: RunningSystem) -> None:
    job_id = web_system.submit("#!/bin/bash\necho '</script><script>document.title=2</script>'\n", name=ODD_NAME)
    web_system.wait_state(job_id)
    page = sign_in(f"/jobs/{job_id}")
    expect(page.get_by_role("heading", level=1)).to_contain_text("txt.exe 🎉")
    expect(page.locator(".code")).to_contain_text("</script><script>")
    assert page.locator("img[src=x]").count() == 0
    assert page.title().startswith(job_id)


def test_why_button_starts_a_blocked_job(sign_in: SignIn, web_system: RunningSystem) -> None:
    blockers = [web_system.submit("#!/bin/bash\nsleep 300\n", name="blocker", cpus_per_task=3) for _ in range(2)]
    for blocker in blockers:
        web_system.wait_state(blocker, "RUNNING")
    job_id = web_system.submit("#!/bin/bash\ntrue\n", name="blocked", cpus_per_task=4, time_limit="60")
    try:
        page = sign_in(f"/jobs/{job_id}")
        # 各样资源要多少、空着多少：两个节点都只剩一个 CPU。
        expect(page.locator(".why-need.short")).to_have_text("CPU要 4，空 1，差 3")
        page.locator(".suggestion").filter(has_text="每任务 CPU").filter(has_text="现在就能开始").first.click()
        web_system.wait_state(job_id, "COMPLETED")
        expect(page.locator(".page-head .state-COMPLETED")).to_be_visible()
    finally:
        for each in (*blockers, job_id):
            web_system.call("POST", f"/jobs/cancel/{each}")


def test_keyboard_alone(sign_in: SignIn, web_system: RunningSystem) -> None:
    job_id = web_system.submit("#!/bin/bash\ntrue\n", name="keyboard", hold=True)
    page: Page = sign_in("/jobs?name=keyboard&state=PENDING")
    expect(page.locator("tr.job")).to_have_count(1)
    page.keyboard.press("/")
    expect(page.get_by_label("搜索", exact=True)).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("keyboard")
    page.go_back()
    expect(page.locator("tr.job")).to_have_count(1)
    page.keyboard.press("j")
    page.keyboard.press("c")
    page.get_by_role("dialog").wait_for()
    # 先停在“不”上：手快的人按回车什么也不会没有。
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    web_system.wait_state(job_id, "CANCELLED")


def test_api_away_and_back(sign_in: SignIn, web_system: RunningSystem) -> None:
    job_id = web_system.submit("#!/bin/bash\nsleep 300\n", name="away")
    page = sign_in(f"/jobs/{job_id}", expected_faults="503|502|500")
    try:
        expect(page.locator(".page-head .state")).to_be_visible()
        api = web_system.services("api")[0]
        import os
        import signal

        os.kill(api, signal.SIGSTOP)
        try:
            expect(page.get_by_role("alert")).to_contain_text("连不上 API")
        finally:
            os.kill(api, signal.SIGCONT)
        expect(page.get_by_role("alert")).to_have_count(0)
    finally:
        web_system.call("POST", f"/jobs/cancel/{job_id}")


def test_dependency_graph_leads_to_the_others(sign_in: SignIn, web_system: RunningSystem) -> None:
    first = web_system.submit("#!/bin/bash\ntrue\n", name="先做", hold=True)
    second = web_system.submit("#!/bin/bash\ntrue\n", name="后做", dependency=f"afterok:{first}")
    page = sign_in(f"/jobs/{second}")
    graph = page.get_by_role("region", name="依赖图")
    expect(graph.locator(".graph-job")).to_have_count(2)
    expect(graph.locator(".graph-edge")).to_have_count(1)
    graph.get_by_role("link", name="先做").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("先做")
    expect(page.get_by_role("region", name="依赖图").locator(".own")).to_contain_text(first)
    for job_id in (second, first):
        web_system.call("POST", f"/jobs/cancel/{job_id}")


def test_a_suspended_job_says_who_stopped_it(sign_in: SignIn, web_system: RunningSystem) -> None:
    job = web_system.submit("#!/bin/bash\nsleep 600\n", name="停一停", memory_per_node="100M")
    web_system.wait_state(job, "RUNNING")
    page = sign_in(f"/jobs/{job}")
    assert web_system.call("POST", f"/jobs/{job}/suspend")[0] == 200
    card = page.get_by_role("region", name="为什么停着")
    expect(card).to_contain_text("root 挂起的")
    assert web_system.call("POST", f"/jobs/{job}/resume")[0] == 200
    expect(card).to_have_count(0)
    web_system.call("POST", f"/jobs/cancel/{job}")
    web_system.wait_state(job)

"""坏的输入：一 GB 的输出、二进制、</script>、两边的钟不齐。看的是页面怎样，也看服务器的内存。"""

import time
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import pytest
from playwright.sync_api import expect
from visits import SignIn, token_of, web_url_of

from running_system import RunningSystem
from scns_conductor.web.login_links import create_login_link

GIB = 1024**3
AHEAD = """
const Real = Date;
globalThis.Date = class extends Real {
  constructor(...given) { given.length ? super(...given) : super(Real.now() + 10800000); }
  static now() { return Real.now() + 10800000; }
};
"""
# 一个进程为送这么大的输出至多多占的内存。
MOST_GROWTH_KB = 64 * 1024


def memory_kb(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@pytest.mark.timeout(600)
def test_a_gigabyte_of_output_costs_no_memory(sign_in: SignIn, web_system: RunningSystem) -> None:
    # 稀疏的：不占盘。
    script = (
        f'#!/bin/bash\nout=$(readlink /proc/$$/fd/1)\ntruncate -s {GIB} "$out"\nprintf \'\\n最后一行\\n\' >> "$out"\n'
    )
    job_id = web_system.submit(script, name="huge")
    web_system.wait_state(job_id)
    page = sign_in(f"/jobs/{job_id}")
    expect(page.locator(".terminal")).to_contain_text("最后一行")
    pids = {name: web_system.services(name)[0] for name in ("api", "web")}
    assert pids.keys() == {"api", "web"}
    before = {}
    for name, pid in pids.items():
        # 从现在起记峰值（proc(5)）。
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        before[name] = memory_kb(pid, "VmRSS")
    url = web_url_of(web_system)
    visitor = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    visitor.open(create_login_link(web_system.data_dir, url, token_of(web_system, None)), timeout=60).close()
    total = 0
    with visitor.open(f"{url}/api/jobs/{job_id}/logs/stdout?download=huge.txt", timeout=120) as answer:
        assert answer.headers["content-disposition"].startswith("attachment")
        while piece := answer.read(1024**2):
            total += len(piece)
    assert total > GIB
    growth = {name: memory_kb(pid, "VmHWM") - before[name] for name, pid in pids.items()}
    assert max(growth.values()) < MOST_GROWTH_KB, growth


def test_binary_output_is_shown_and_downloaded_as_it_is(sign_in: SignIn, web_system: RunningSystem) -> None:
    job_id = web_system.submit("#!/bin/bash\nhead -c 200000 /dev/urandom\nprintf '\\n能看的一行\\n'\n", name="binary")
    web_system.wait_state(job_id)
    page = sign_in(f"/jobs/{job_id}")
    expect(page.locator(".terminal")).to_contain_text("能看的一行")
    with page.expect_download() as download:
        page.get_by_role("link", name="下载全部").click()
    assert download.value.path().stat().st_size == 200_000 + len("\n能看的一行\n".encode())


def test_script_tags_stay_text_everywhere(sign_in: SignIn, web_system: RunningSystem) -> None:
    nasty = "</script><script>document.title='hit'</script><img src=x onerror=\"document.title='hit'\">"
    job_id = web_system.submit(
        f"#!/bin/bash\n#SBATCH --comment=x\ncat <<'END'\n{nasty}\nEND\n", name=nasty, comment=nasty
    )
    web_system.wait_state(job_id)
    for path in (f"/jobs/{job_id}", "/jobs", f"/submit?from={job_id}"):
        page = sign_in(path)
        page.wait_for_load_state("networkidle")
        assert page.title() != "hit"
        assert page.locator("img[src=x]").count() == 0


def test_clock_of_the_browser_may_be_wrong(sign_in: SignIn, web_system: RunningSystem) -> None:
    job_id = web_system.submit("#!/bin/bash\nsleep 300\n", name="skewed", time_limit="60")
    web_system.wait_state(job_id, "RUNNING")
    page = sign_in("/")
    # 浏览器的钟快了三小时：跑了多久、多久以前照服务器的。
    page.add_init_script(AHEAD)
    page.goto(page.url.rstrip("/") + f"/jobs/{job_id}")
    assert page.evaluate("Date.now()") / 1000 > time.time() + 10_000
    ribbon = page.locator(".ribbon")
    expect(ribbon).to_contain_text("运行中")
    expect(ribbon).not_to_contain_text("小时")
    web_system.call("POST", f"/jobs/cancel/{job_id}")

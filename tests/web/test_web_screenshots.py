"""文档里的图：造一个忙的系统，各页照一张。平时写到临时目录，只核对画出来了；

SCREENSHOTS=docs/web make test-web ARGS='-k screenshots' 更新文档里的。
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect
from visits import Receiver, two_days_later, web_url_of

from running_system import RunningSystem, as_user, database_url, start_system, wait_until
from scns_conductor.web.login_links import create_login_link

MOST_BYTES = 260_000
CHOSEN = os.environ.get("SCREENSHOTS")
# 只核对画得出来时，过去的历史短一些。
PAST_TASKS = 60 if CHOSEN else 6
TRAINING = """#!/usr/bin/env python3
#SBATCH --job-name=resnet50
#SBATCH --gres=gpu:1 --mem=1G --time=2:00:00
# 训练：每个 epoch 打印一行，内存越用越多
import time

print("\\033[1m数据集\\033[0m ImageNet-1k（1,281,167 张）")
kept = []
for epoch in range(1, 91):
    loss, top1 = 6.9 / epoch**0.4, 20 + 56 * (1 - 0.96**epoch)
    print(f"epoch \\033[36m{epoch:2}\\033[0m/90  loss=\\033[33m{loss:.2f}\\033[0m  ", end="")
    print(f"top1=\\033[32m{top1:.1f}%\\033[0m", flush=True)
    if epoch > 30:
        kept.append(bytearray(8 << 20))
        until = time.process_time() + 0.3 + 0.2 * (epoch % 3)
        while time.process_time() < until:
            pass
        time.sleep(0.6)
"""
# 过去一天的样子：一份真的历史挪到过去，白天多，夜里少，几个账户。
PAST = """
WITH past AS (
  SELECT job_id,
    clock_timestamp() - interval '24 hours'
      * (1 - (row_number() OVER (ORDER BY job_id * 37 %% 1009)) / (count(*) OVER () + 1.0)) AS began,
    (600 + 2400 * abs(sin(job_id * 1.7))) AS seconds, (1 + job_id %% 3) AS cpus
  FROM jobs WHERE array_job_id = ANY(%(arrays)s)
), moved AS (
  UPDATE jobs AS j SET submit_time = p.began - interval '4 minutes' * abs(sin(p.job_id)),
    eligible_time = p.began - interval '4 minutes' * abs(sin(p.job_id)), start_time = p.began, allocated_cpus = p.cpus,
    cpus_per_task = p.cpus,
    end_time = least(clock_timestamp() - interval '1 minute', p.began + make_interval(secs => p.seconds))
  FROM past AS p WHERE p.job_id = j.job_id RETURNING j.job_id
)
UPDATE resource_allocations AS a SET created_at = p.began, cpus = p.cpus, memory = 2048 * p.cpus,
  released_at = least(clock_timestamp() - interval '1 minute', p.began + make_interval(secs => p.seconds))
FROM past AS p WHERE p.job_id = a.job_id
"""
# 账户与其中交作业的人；照的多半是 ada 看到的。
PEOPLE = {"vision": "ada", "nlp": "bob", "chem": "chen", "cfd": "dana", "genome": "eve"}
WHAT_IF = "/what-if?since=now-1day&remove_nodes=node3&policy=live,sjf"
# 只为了照节点图：一片没有代理的节点，心跳写在将来。
FIELD = """
INSERT INTO nodes (name, address, cpus, memory, temporary_disk, gres, features, weight, state, drain, reason,
  last_heartbeat, registered_at, allocated_cpus, allocated_memory, allocated_gres, containment)
SELECT format('%s%s', kind, lpad(i::text, 3, '0')), 'node1', 64, 262144, 100000,
  CASE kind WHEN 'gpu' THEN '{"gpu": 8}'::jsonb ELSE '{}'::jsonb END, '{}', 1,
  CASE WHEN i % 61 = 7 THEN 'DOWN' ELSE 'UP' END, i % 37 = 5, CASE WHEN i % 37 = 5 THEN '更换内存' END,
  clock_timestamp() + interval '1 day', clock_timestamp(),
  CASE WHEN i % 61 = 7 THEN 0 ELSE (64 * abs(sin(i * i)))::int END, 0,
  CASE WHEN kind = 'gpu' AND i % 61 <> 7 THEN jsonb_build_object('gpu', (8 * abs(sin(i * 3.1)))::int)
    ELSE '{}'::jsonb END, '{}'
FROM unnest(ARRAY['cpu', 'gpu']) AS kind, generate_series(1, 180) AS i
"""


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """三个节点，各八个 CPU、两个 GPU，忙着。"""
    data_dir = tmp_path_factory.mktemp("busy") / "data"
    options = ("--web", "--nodes", "3", "--cpus", "8", "--memory", "32G", "--gpus", "2")
    environment = {
        "SCNS_WEBHOOKS": "true",
        "SCNS_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1/32",
        "SCNS_JOB_SAMPLE_INTERVAL_S": "1",
    }
    with start_system(data_dir, *options, environment=environment) as system:
        arrays = [
            as_user(system, user).submit(
                "#!/bin/bash\ntrue\n", name="nightly", account=account, array=f"0-{PAST_TASKS - 1}"
            )
            for account, user in PEOPLE.items()
        ]

        def done() -> bool:
            rows = system.call("GET", f"/jobs/arrays?job_id={','.join(arrays)}")[1]["arrays"]
            return [row["done"] for row in rows] == [PAST_TASKS] * len(arrays)

        wait_until(done, 240)
        with psycopg.connect(database_url(system)) as connection:
            connection.execute(PAST, {"arrays": [int(array) for array in arrays]})
        fill(system)
        yield system


def fill(system: RunningSystem) -> None:
    """各种样子的作业。"""

    def submit(script: str, name: str, account: str = "vision", **job: object) -> str:
        return as_user(system, PEOPLE[account]).submit(script, name=name, account=account, **job)

    def sleep(name: str, seconds: int, account: str = "vision", **job: object) -> str:
        return submit(f"#!/bin/bash\nsleep {seconds}\n", name, account, **job)

    one = {"tres_per_node": "gres/gpu:1", "memory_per_node": "1G", "time_limit": "120", "cpus_per_task": 2}
    training = submit(TRAINING, "resnet50-训练", **one)
    sleep("bert-微调", 900, account="nlp", tres_per_node="gres/gpu:2", cpus_per_task=2, time_limit="90")
    submit(
        "#!/bin/bash\nsleep $((SLURM_ARRAY_TASK_ID % 3 + 1)); [ $((SLURM_ARRAY_TASK_ID % 9)) -ne 4 ]\n",
        "参数扫描", array="0-59%3", time_limit="10",
    )  # fmt: skip
    for index, (name, account) in enumerate([("gromacs-md", "chem"), ("vasp-relax", "chem"), ("openfoam", "cfd")]):
        sleep(
            name, 600, account=account, cpus_per_task=3 + index, memory_per_node="4G", time_limit=str(20 * (index + 1))
        )
    sleep("四卡训练", 60, cpus_per_task=4, tres_per_node="gres/gpu:2", nodes="2", time_limit="240")
    for index in range(14):
        account = ("vision", "nlp", "chem", "cfd")[index % 4]
        sleep(f"batch-{index:02d}", 300, account=account, cpus_per_task=2, time_limit=str((10, 30, 60)[index % 3]))
    failed = submit("#!/bin/bash\necho 'KeyError: label' >&2\nexit 3\n", "预处理")
    system.wait_state(failed, wait_s=240)
    sleep("先放着", 1, hold=True)
    # 一串依赖。
    first = sleep("清洗数据", 1, hold=True)
    parts = [sleep(name, 1, dependency=f"afterok:{first}") for name in ("训练-折一", "训练-折二")]
    sleep("汇总报告", 1, dependency=f"afterok:{':'.join(parts)}")
    for account, shares in (("vision", 4), ("nlp", 2), ("chem", 1), ("cfd", 1)):
        system.call("POST", "/accounts", {"name": account, "shares": shares, "grp_tres": "cpu=16,gres/gpu=4"})
    for name, nodes, start, hours in (("换内存", "node3", 20, 9), ("教学", "node[1-2]", 44, 6)):
        body = {"name": {"换内存": "memory", "教学": "course"}[name], "nodes": nodes, "comment": name}
        moments = {"start_time": f"now+{start}hours", "duration": str(hours * 60), "users": ["ada"]}
        system.call("POST", "/reservations", {**body, **moments})
    settings = {"max_switch_wait_s": 600, "kill_invalid_dependency": True, "licenses": "matlab:5,ansys:2"}
    assert system.call("POST", "/cluster/apply", {"settings": settings})[0] == 200
    system.wait_state(training, "RUNNING", wait_s=240)


@pytest.fixture
def _subscribed(busy: RunningSystem) -> Iterator[None]:
    """两个订阅：一个收得下，一个那边满着，试了两天不再试。"""
    with Receiver() as receiver:
        for path, events in (("scns", ["job.ended", "node.*"]), ("full", ["job.unsuccessful"])):
            body = {"url": f"http://127.0.0.1:{receiver.port}/{path}", "events": events, "scope": "cluster"}
            status, made = busy.call("POST", "/webhooks", body)
            assert status == 201, made
            assert busy.call("POST", f"/webhooks/{made['webhook_id']}/ping")[0] == 202

        def states() -> set[str]:
            found = busy.call("GET", "/webhooks/deliveries")[1]["deliveries"]
            return {one["state"] for one in found if one["attempts"]}

        wait_until(lambda: states() == {"SENT", "QUEUED"}, what="一件送到，一件没有")
        two_days_later(busy)
        wait_until(lambda: "DEAD" in states(), what="不再试")
        yield


def shrink(target: Path) -> None:
    """文档里的图存成 256 色：小到三分之一，看不出差别。"""
    with contextlib.suppress(ImportError):
        from PIL import Image

        with Image.open(target) as picture:
            small = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
        small.save(target, optimize=True)


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("_subscribed")
def test_screenshots(busy: RunningSystem, browser: Browser, tmp_path: Path) -> None:
    folder = Path(CHOSEN).resolve() if CHOSEN else tmp_path
    base = web_url_of(busy)

    def signed_in(system: RunningSystem, theme: str, width: int = 1280, language: str = "zh") -> Page:
        context = browser.new_context(
            locale="zh-CN" if language == "zh" else "en-GB",
            timezone_id="Asia/Shanghai",
            viewport={"width": width, "height": 860},
            color_scheme=theme,
            reduced_motion="reduce",
        )
        context.set_default_timeout(120_000)
        page = context.new_page()
        page.goto(create_login_link(busy.data_dir, base, system.token))
        page.locator(".rail").wait_for()
        return page

    def shoot(page: Page, name: str, path: str, ready: str, press: str = "") -> None:
        page.goto(base + path)
        if press:
            page.get_by_role("button", name=press).click()
        page.locator(ready).first.wait_for()
        page.wait_for_function("!document.querySelector('main .bars')")
        if CHOSEN:
            page.wait_for_function("new Promise((done) => setTimeout(() => done(true), 1500))")
        # 忙的机器上连接断过的，框架会重新载入：照之前再看一眼都在。
        page.locator(ready).first.wait_for()
        page.evaluate("scrollTo(0, 0)")
        target = folder / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=target)
        if CHOSEN:
            shrink(target)
        assert 5_000 < target.stat().st_size < MOST_BYTES, name

    jobs = {job["name"]: job["job_id"] for job in busy.call("GET", "/jobs?limit=400&arrays=folded")[1]["jobs"]}
    training, waiting = f"/jobs/{jobs['resnet50-训练']}", f"/jobs/{jobs['四卡训练']}"
    submit = "/submit?from=" + jobs["resnet50-训练"]
    ada = as_user(busy, "ada")
    member = signed_in(ada, "light")
    # 曲线有了几格再照。
    shoot(member, "why", waiting, ".why-need")
    shoot(member, "jobs", "/jobs", "tr.job")
    shoot(member, "plan", "/plan", ".gantt canvas")
    shoot(member, "submit", submit, ".plan-answer")
    shoot(member, "dependencies", f"/jobs/{jobs['训练-折一']}", ".graph-job")
    shoot(member, "overview", "/", ".chart-layer")
    shoot(member, "job", training, ".usage-curve .chart-layer")
    dark = signed_in(ada, "dark")
    shoot(dark, "overview-dark", "/", ".chart-layer")
    shoot(dark, "job-dark", training, ".usage-curve .chart-layer")
    phone = signed_in(ada, "light", 390)
    shoot(phone, "phone", training, ".log-line")
    light = signed_in(busy, "light")
    shoot(light, "usage", "/usage?span=1day", ".chart-layer")
    shoot(light, "what-if", WHAT_IF, ".why-lead", "演一遍")
    shoot(light, "calendar", "/admin?tab=reservations", ".calendar-block")
    shoot(light, "settings", "/admin?tab=config", ".settings li")
    shoot(light, "webhooks", "/admin?tab=webhooks", ".state-COMPLETED")
    if CHOSEN:
        english = signed_in(ada, "light", language="en")
        shoot(english, "en/overview", "/", ".chart-layer")
        shoot(english, "en/plan", "/plan", ".gantt canvas")
        shoot(english, "en/submit", submit, ".plan-answer")
        shoot(signed_in(ada, "dark", language="en"), "en/job-dark", training, ".usage-curve .chart-layer")
        shoot(signed_in(ada, "light", 390, language="en"), "en/phone", training, ".log-line")
        shoot(signed_in(busy, "light", language="en"), "en/what-if", WHAT_IF, ".why-lead", "Run")
    with psycopg.connect(database_url(busy)) as connection:
        connection.execute(FIELD)
    shoot(light, "nodes", "/nodes", ".node-map canvas")
    expect(light.locator(".chip b").first).to_have_text("363")
    if CHOSEN:
        shoot(english, "en/nodes", "/nodes", ".node-map canvas")

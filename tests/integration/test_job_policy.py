"""站点的提交策略：拒绝、改字段、转圈、崩溃、改了重读；没有插件的不起进程。"""

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from slurm_links import Commands

from running_system import RunningSystem, as_user, second_api, wait_until
from scns_conductor.language.catalogue import CHINESE
from scns_conductor.services.policy_pool import PolicyFailed, PolicyPool

EXAMPLE = Path(__file__).parents[2] / "examples" / "job_submit_policy.py"
SCRIPT = "#!/bin/bash\n:\n"


class Site:
    """一个系统与它的插件文件。"""

    def __init__(self, system: RunningSystem, plugin: Path) -> None:
        self.system, self.plugin = system, plugin

    def policy(self, text: str) -> None:
        """换一个插件。"""
        draft = self.plugin.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(self.plugin)

    def submit(self, **job: Any) -> tuple[int, Any]:
        job.setdefault("current_working_directory", str(self.system.data_dir))
        return self.system.call("POST", "/jobs/submit", {"job": job, "script": job.pop("script", SCRIPT)})

    def detail(self, job_id: str) -> dict[str, Any]:
        status, answer = self.system.call("GET", f"/jobs/{job_id}")
        assert status == 200, answer
        found: dict[str, Any] = answer
        return found

    def log(self) -> str:
        """API 的日志。"""
        name = f"api-{urlsplit(self.system.url).port}.log"
        return self.system.data_dir.with_name(name).read_text()

    def hosts(self) -> list[int]:
        """运行这个插件的进程。"""
        found = []
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                try:
                    words = (path / "cmdline").read_bytes().split(b"\0")
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if b"scns_conductor.policy_host" in words and str(self.plugin).encode() in words:
                    found.append(int(path.name))
        return found


@pytest.fixture(scope="module")
def site(running_system: RunningSystem, scratch: Path) -> Iterator[Site]:
    plugin = scratch / "site_policy.py"
    shutil.copy(EXAMPLE, plugin)
    plugin.chmod(0o644)
    settings = {"SCNS_JOB_SUBMIT_PLUGIN": str(plugin), "SCNS_JOB_SUBMIT_TIMEOUT_S": "1"}
    with second_api(running_system, settings) as system:
        yield Site(system, plugin)


def test_the_example_does_what_it_says(site: Site) -> None:
    """文档里的例子照抄运行。"""
    status, answer = site.submit(tres_per_node="gpu:1")
    assert (status, answer["code"]) == (403, "policy_refused")
    assert "请写时限" in answer["detail"]
    status, answer = site.submit()
    assert status == 200, answer
    job = site.detail(answer["job_id"])
    assert (job["account"], job["time_limit"]) == ("guests", 3600)
    assert "guest job of" in site.log()
    assert site.detail(site.submit(account="physics", time_limit="5")[1]["job_id"])["time_limit"] == 300
    assert site.system.call("POST", "/partitions", {"name": "debug", "nodes": "ALL"})[0] == 201
    ada = as_user(site.system, "ada")
    try:
        body = {"job": {"partition": "debug", "time_limit": "2:00:00"}, "script": SCRIPT}
        assert "至多 30 分钟" in ada.call("POST", "/jobs/submit", body)[1]["detail"]
        assert "至多 30 分钟" in ada.call("POST", "/jobs/plan", body)[1]["detail"]
        held = {"job": {"partition": "debug", "time_limit": "10", "hold": True}, "script": SCRIPT}
        job_id = ada.call("POST", "/jobs/submit", held)[1]["job_id"]
        answer = ada.call("PATCH", f"/jobs/{job_id}", {"time_limit": "60"})[1]
        assert "时限不能改" in answer["detail"]
        assert ada.call("PATCH", f"/jobs/{job_id}", {"comment": "可以"})[0] == 200
        ada.call("POST", f"/jobs/cancel/{job_id}")
    finally:
        site.system.call("DELETE", "/partitions/debug")


def test_slurm_commands_tell_a_refusal_in_english(site: Site, tmp_path: Path) -> None:
    slurm = Commands.beside(site.system, tmp_path)
    in_chinese = {"LC_ALL": "zh_CN.UTF-8", "LANG": "zh_CN.UTF-8"}
    site.policy("def job_submit(job, user, partition):\n    return 'GPU jobs need --time'\n")
    for words in (("sbatch", "--wrap=true"), ("srun", "true"), ("salloc", "true")):
        told = slurm.run(*words, environment=in_chinese)
        assert told.returncode != 0
        assert "the site's policy refuses: GPU jobs need --time" in told.stderr, words
        assert not CHINESE.search(told.stderr), (words, told.stderr)
    site.policy("def job_submit(job, user, partition):\n    return 7\n")
    told = slurm.run("sbatch", "--wrap=true", environment=in_chinese)
    assert "the site's submit policy failed" in told.stderr
    assert not CHINESE.search(told.stderr), told.stderr


def test_a_batch_and_a_heterogeneous_job_are_asked_about_once(site: Site) -> None:
    site.policy(
        "calls = []\n"
        "def job_submit(job, user, partition):\n"
        "    calls.append(job.name)\n"
        "    if job.name == 'bad':\n"
        "        return 'no'\n"
        "    job.environment = {**(job.environment or {}), 'SITE_CALLS': str(len(calls)), 'LEAST': partition.name}\n"
    )
    jobs = [{"job": {"name": f"j{at}", "hold": True}, "script": SCRIPT} for at in range(700)]
    status, answer = site.system.call("POST", "/jobs/submit/batch", {"jobs": jobs})
    assert status == 200, answer
    last = site.detail(answer["job_ids"][-1])["environment"]
    assert last["SITE_CALLS"] == "700"
    site.system.call("POST", "/jobs/control", {"action": "cancel", "job_ids": answer["job_ids"]})
    bad = [*jobs[:3], {"job": {"name": "bad"}, "script": SCRIPT}]
    status, answer = site.system.call("POST", "/jobs/submit/batch", {"jobs": bad})
    assert (status, answer["code"]) == (403, "policy_refused")
    assert "jobs[3]" in answer["detail"]
    status, answer = site.system.call(
        "POST", "/jobs/submit/het", {"jobs": [{"name": "a"}, {"name": "bad"}], "script": SCRIPT}
    )
    assert (status, answer["code"]) == (403, "policy_refused")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise RuntimeError('坏了')", "RuntimeError: 坏了"),
        ("return 7", "应返回 None"),
        ("job.script = 'evil'", "脚本是用户的"),
        ("job.time_limit = 'soon'", "time_limit"),
        ("job.no_such = 1", "no_such"),
        ("job.memory_per_cpu = 5", "只能有一个"),
        ("import os; os._exit(3)", "进程死了"),
    ],
)
def test_a_broken_policy_refuses_and_says_why(site: Site, body: str, told: str) -> None:
    site.policy(f"def job_submit(job, user, partition):\n    {body}\n")
    status, answer = site.submit(memory_per_node="5")
    assert (status, answer["code"]) == (500, "policy_failed"), answer
    assert told in answer["detail"]


def test_a_policy_that_loops_holds_nobody_and_is_killed(site: Site) -> None:
    site.policy(
        "def job_submit(job, user, partition):\n    while job.name == 'loop':\n        pass\n    print('printed')\n"
    )
    status, answer = site.submit(name="loop")
    assert (status, answer["code"]) == (500, "policy_failed")
    assert "1 秒没有答" in answer["detail"]
    assert site.submit(name="good")[0] == 200
    assert site.system.call("GET", "/health/ready")[0] == 200
    # 闲着的时候被杀的，不算插件的错。
    (host, *_) = wait_until(site.hosts, what="插件的进程")
    os.kill(host, signal.SIGKILL)
    wait_until(lambda: host not in site.hosts(), what="没有了")
    assert site.submit(name="good")[0] == 200


def test_a_changed_file_is_read_again_and_a_bad_one_is_refused(site: Site) -> None:
    site.policy("def job_submit(job, user, partition):\n    return 'first'\n")
    assert "first" in site.submit()[1]["detail"]
    site.policy("def job_submit(job, user, partition):\n    return 'second'\n")
    assert "second" in site.submit()[1]["detail"]
    for text, told in (
        ("def job_submit(:\n", "SyntaxError"),
        ("x = 1\n", "没有 job_submit"),
        ("import nope\n", "nope"),
    ):
        site.policy(text)
        status, answer = site.submit()
        assert (status, answer["code"]) == (500, "policy_failed")
        assert told in answer["detail"]
    site.policy("def job_submit(job, user, partition):\n    return None\n")
    site.plugin.chmod(0o666)
    assert "别人能改" in site.submit()[1]["detail"]
    site.plugin.chmod(0o644)
    site.policy("def job_submit(job, user, partition):\n    job.nice = None\n")
    assert site.submit(nice=5)[0] == 200


def test_a_broken_policy_passes_where_the_site_says_so(scratch: Path) -> None:
    """只起 API 的部件：真的进程，真的插件。"""

    from scns_conductor.api.job_request import JobRequest
    from scns_conductor.core.accounting import Accounting
    from scns_conductor.core.settings import Settings
    from scns_conductor.core.tokens import Identity
    from scns_conductor.services.cluster_limits import ClusterLimits
    from scns_conductor.services.current_rules import Rules
    from scns_conductor.services.job_admission import Admission
    from scns_conductor.services.job_policy import JobPolicy

    plugin = scratch / "passing.py"
    plugin.write_text(
        "def job_submit(job, user, partition):\n"
        "    if job.name == 'loop':\n        while True: pass\n"
        "    if job.name == 'raise':\n        raise ValueError\n"
        "    if job.name == 'wrong':\n        job.time_limit = 'x'\n        return\n"
        "    job.comment = 'seen'\n"
    )
    plugin.chmod(0o644)
    settings = Settings(data_dir=scratch, job_submit_failure="pass")
    rules = Rules(ClusterLimits(), Admission(Accounting(), settings), settings)

    async def run() -> list[dict[str, Any]]:
        policy = JobPolicy(
            PolicyPool(str(plugin), 0.5),
            settings,
            lambda written: JobRequest.model_validate(written).columns(),
            lambda written: JobRequest.model_validate(written).changes(),
        )
        try:
            found = []
            for names in (["raise", "fine", "wrong"], ["fine", "loop"]):
                drafts = [(JobRequest.model_validate({"name": name}), SCRIPT) for name in names]
                shaped = await policy.shape(drafts, names, Identity("ada", False), rules)
                found += [wants.columns() for wants in shaped]
            return found
        finally:
            await policy.close()

    found = asyncio.run(run())
    assert [each.get("comment") for each in found] == [None, "seen", None, None, None]
    assert [each["name"] for each in found] == ["raise", "fine", "wrong", "fine", "loop"]


def test_an_installed_package_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """装好的软件包：一个模块，一份 dist-info；名字不对的说得出来。"""
    (tmp_path / "lab_policy.py").write_text(
        "def job_submit(job, user, partition):\n"
        "    if user.name == 'eve':\n        return 'no'\n"
        "    job.account = 'lab'\n"
    )
    info = tmp_path / "lab_policy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-policy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[scns_conductor.job_submit]\nlab = lab_policy\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))

    def question(user: str) -> dict[str, Any]:
        job = {"job": {"name": "x"}, "script": SCRIPT, "partition": "main"}
        return {"kind": "submit", "user": {"name": user}, "partitions": {}, "jobs": [job]}

    async def run() -> list[Any]:
        pool, wrong = PolicyPool("lab", 5.0), PolicyPool("nothing", 5.0)
        try:
            with pytest.raises(PolicyFailed, match="没有叫 nothing 的入口点"):
                await wrong.warm()
            return [(await pool.ask(question(user)))["results"][0] for user in ("ann", "eve")]
        finally:
            await pool.close()
            await wrong.close()

    assert asyncio.run(run()) == [{"changes": {"account": "lab"}}, {"refused": "no"}]

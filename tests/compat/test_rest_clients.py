"""slurmrestd 的真实客户端，原样使用：由公开的 OpenAPI 文档生成的三个，手写的两个。"""

import asyncio
import importlib
import inspect
import uuid
from pathlib import Path
from typing import Any

import pytest

from running_system import RunningSystem, wait_until

pytestmark = pytest.mark.compat
pytest_plugins = ["slurm_fixtures"]

GENERATED = [
    ("slurmrestapi", "v0.0.41"),
    ("slurmrestapi", "v0.0.42"),
    ("slurmrestapi", "v0.0.43"),
    ("slurmrestapi", "v0.0.44"),
    ("aind_slurm_rest_v2", "v0.0.40"),
    ("aind_slurm_rest_v2", "v0.0.41"),
    ("slurpy.v0040", "v0.0.40"),
    ("slurpy.v0041", "v0.0.41"),
    ("slurpy.v0042", "v0.0.42"),
]
SCRIPT = "#!/bin/sh\necho from-$WHO\n"


@pytest.fixture
def system(slurm_system: tuple[RunningSystem, Path]) -> RunningSystem:
    """与命令的兼容测试共用的系统。"""
    return slurm_system[0]


class Generated:
    """一个生成的客户端：方法名照版本取。"""

    def __init__(self, package: str, version: str, system: RunningSystem) -> None:
        module = importlib.import_module(package)
        configuration = module.Configuration(host=system.url)
        configuration.api_key["token"] = system.token
        client = module.ApiClient(configuration)
        self.slurm, self.slurmdb = module.SlurmApi(client), module.SlurmdbApi(client)
        self.prefix = "" if package.startswith("slurpy") else version.replace(".", "") + "_"

    def method(self, plugin: str, name: str) -> Any:
        """如 slurm_v0044_get_jobs，或短名字的 get_jobs。"""
        return getattr(getattr(self, plugin), f"{plugin}_{self.prefix}{name}" if self.prefix else name)

    def getters(self, plugin: str) -> dict[str, Any]:
        """不要参数的全部 GET。"""
        start = f"{plugin}_{self.prefix}get_" if self.prefix else "get_"
        found = {}
        for name, method in inspect.getmembers(getattr(self, plugin), inspect.ismethod):
            if name.startswith(start) and not name.endswith(("_with_http_info", "_without_preload_content")):
                needed = [
                    each
                    for each in inspect.signature(method).parameters.values()
                    if each.default is inspect.Parameter.empty and each.kind is not each.VAR_KEYWORD
                ]
                if not needed:
                    found[name.removeprefix(start)] = method
        return found


def _models(package: str, version: str) -> Any:
    return importlib.import_module(f"{package}.models")


def _named(models: Any, version: str, table: str) -> Any:
    known = {name.lower(): name for name in dir(models)}
    plain = table.replace("_", "").lower()
    return getattr(models, known.get(version.replace("v0.0.", "v00") + plain) or known[plain])


@pytest.mark.parametrize(("package", "version"), GENERATED)
def test_generated_client_reads_everything(package: str, version: str, system: RunningSystem) -> None:
    client = Generated(package, version, system)
    seen = {}
    for plugin in ("slurm", "slurmdb"):
        for name, method in client.getters(plugin).items():
            seen[f"{plugin}/{name}"] = method()
    # 写坏了的回答、缺的字段、枚举里没有的词，客户端自己就抛了。
    assert {"slurm/ping", "slurm/jobs", "slurm/nodes", "slurm/diag", "slurmdb/jobs", "slurmdb/config"} <= seen.keys()
    assert all(not answer.errors for answer in seen.values() if hasattr(answer, "errors"))
    assert seen["slurm/nodes"].nodes[0].name == "node1"
    assert seen["slurm/ping"].meta.slurm.release == "25.11.0"


# aind 的 v0.0.41 里没有作业的模型。
@pytest.mark.parametrize(
    ("package", "version"), [each for each in GENERATED if each != ("aind_slurm_rest_v2", "v0.0.41")]
)
def test_generated_client_submits_watches_updates_and_cancels(
    package: str, version: str, system: RunningSystem, tmp_path: Path
) -> None:
    client, models = Generated(package, version, system), _models(package, version)
    description = _named(models, version, "job_desc_msg")
    request = _named(models, version, "job_submit_req")
    name = f"rest-{uuid.uuid4().hex[:8]}"
    job = description.from_dict(
        {
            "name": name,
            "current_working_directory": str(tmp_path),
            "environment": ["WHO=rest"],
            "standard_output": str(tmp_path / "out"),
            "time_limit": {"set": True, "infinite": False, "number": 5},
            "tasks": 1,
        }
    )
    answer = client.method("slurm", "post_job_submit")(request(script=SCRIPT, job=job))
    job_id = answer.job_id
    assert isinstance(job_id, int)

    def ended() -> Any:
        found = client.method("slurm", "get_job")(str(job_id)).jobs[0]
        return found if found.job_state[0] in ("COMPLETED", "FAILED") else None

    done = wait_until(ended, what=f"{package} {version} 的作业结束")
    assert done.job_state == ["COMPLETED"]
    assert done.exit_code.status == ["SUCCESS"]
    assert (done.time_limit.number, done.name) == (5, name)
    assert (tmp_path / "out").read_text() == "from-rest\n"
    kept = client.method("slurmdb", "get_job")(str(job_id)).jobs[0]
    assert (kept.state.current, kept.name, len(kept.steps)) == (["COMPLETED"], name, 1)

    job.hold = True
    held = client.method("slurm", "post_job_submit")(request(script=SCRIPT, job=job)).job_id
    client.method("slurm", "post_job")(str(held), description.from_dict({"comment": "changed", "hold": True}))
    found = client.method("slurm", "get_job")(str(held)).jobs[0]
    assert (found.job_state, found.comment, found.hold) == (["PENDING"], "changed", True)
    client.method("slurm", "delete_job")(str(held))
    found = client.method("slurm", "get_job")(str(held)).jobs[0]
    assert found.job_state == ["CANCELLED"]


@pytest.mark.parametrize(("package", "version"), [("slurmrestapi", "v0.0.44"), ("aind_slurm_rest_v2", "v0.0.40")])
def test_generated_client_writes_the_accounting(package: str, version: str, system: RunningSystem) -> None:
    client, models = Generated(package, version, system), _models(package, version)
    account, user, qos = (f"{kind}{uuid.uuid4().hex[:6]}" for kind in ("a", "u", "q"))

    def post(name: str, table: str, values: dict[str, Any]) -> Any:
        method = client.method("slurmdb", f"post_{name}")
        # 请求体的参数有的排在查询参数之后。
        body = next(each for each in inspect.signature(method).parameters if each.endswith("_resp"))
        return method(**{body: _named(models, version, table).from_dict(values)})

    post("accounts", "openapi_accounts_resp",
         {"accounts": [{"name": account, "description": "d", "organization": "o"}]})  # fmt: skip
    post("qos", "openapi_slurmdbd_qos_resp",
         {"qos": [{"name": qos, "description": "fast",
                   "limits": {"max": {"wall_clock": {"per": {"job": {"set": True, "number": 60}}}}}}]})  # fmt: skip
    post("associations", "openapi_assocs_resp",
         {"associations": [{"account": account, "user": user, "cluster": "scns", "shares_raw": 7, "qos": [qos],
                            "max": {"jobs": {"active": {"set": True, "number": 3}}}}]})  # fmt: skip
    post("users", "openapi_users_resp",
         {"users": [{"name": user, "administrator_level": ["Operator"], "default": {"account": account}}]})  # fmt: skip
    found = client.method("slurmdb", "get_associations")(account=account, user=user).associations[0]
    assert (found.shares_raw, found.qos, found.max.jobs.active.number, found.is_default) == (7, [qos], 3, True)
    got = client.method("slurmdb", "get_user")(user).users[0]
    assert (got.administrator_level, got.default.account) == (["Operator"], account)
    limit = client.method("slurmdb", "get_single_qos")(qos).qos[0].limits.max.wall_clock.per.job
    assert (limit.set, limit.number) == (True, 60)
    client.method("slurmdb", "delete_user")(user)
    client.method("slurmdb", "delete_account")(account)
    client.method("slurmdb", "delete_single_qos")(qos)
    assert account not in {each.name for each in client.method("slurmdb", "get_accounts")().accounts}


@pytest.mark.parametrize("version", ["v0.0.40", "v0.0.42", "v0.0.44"])
def test_slurm_requests(version: str, system: RunningSystem, tmp_path: Path) -> None:
    import slurm_requests

    slurm_requests.init_defaults(url=system.url, api_version=version, user_name=_owner(system), user_token=system.token)

    async def submitted(script: str) -> int:
        job_id, _ = await slurm_requests.job_submit(
            name="requests",
            script=script,
            working_directory=str(tmp_path),
            time_limit=5,
            environment=["WHO=requests"],
            stdout=str(tmp_path / "out"),
        )
        assert job_id is not None
        return job_id

    async def story() -> str:
        await slurm_requests.ping()
        await slurm_requests.diagnose()
        job_id = await submitted(SCRIPT)
        state = "pending"
        while state in ("pending", "running"):
            found, _ = await slurm_requests.job_current_state_and_reason(job_id)
            (state,) = map(str, found)
            await asyncio.sleep(0.05)
        assert (tmp_path / "out").read_text() == "from-requests\n"
        waiting = await submitted("#!/bin/sh\nsleep 60\n")
        states = {slurm_requests.SLURMJobState.RUNNING, slurm_requests.SLURMJobState.PENDING}
        listed = await slurm_requests.jobs_list_ids(state=states)
        await slurm_requests.job_cancel(waiting)
        assert waiting in listed
        assert job_id not in listed
        return state

    assert asyncio.run(story()) == "completed"


def _owner(system: RunningSystem) -> str:
    from scns_conductor.client.token_claims import user_name_of

    return user_name_of(system)


@pytest.mark.parametrize("version", ["v0.0.39", "v0.0.40", "v0.0.41", "v0.0.42", "v0.0.43", "v0.0.44"])
def test_pyslurmutils(version: str, system: RunningSystem, tmp_path: Path) -> None:
    from pyslurmutils.client import SlurmScriptRestClient

    client = SlurmScriptRestClient(
        url=system.url,
        user_name=_owner(system),
        token=system.token,
        api_version=version,
        log_directory=str(tmp_path),
    )
    parameters = {"time_limit": "00:05:00", "environment": {"WHO": "utils"}, "current_working_directory": str(tmp_path)}
    job_id = client.submit_script(SCRIPT, parameters=parameters)
    assert client.wait_finished(job_id) == "COMPLETED"
    assert "from-utils" in "".join(path.read_text() for path in tmp_path.glob(f"*{job_id}*"))
    running = client.submit_script("#!/bin/sh\nsleep 60\n", parameters=parameters)
    assert running in {each.job_id for each in client.get_all_job_properties()}
    client.cancel_job(running)
    assert client.wait_finished(running) == "CANCELLED"

"""slurmrestd 的接口，v0.0.38 到 v0.0.44：地址、错误、写。真的客户端见 tests/compat/test_rest_clients.py。"""

import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from running_system import RunningSystem, as_user, wait_until

NEW = ["v0.0.40", "v0.0.41", "v0.0.42", "v0.0.43", "v0.0.44"]
OLD = ["v0.0.38", "v0.0.39"]
SLEEP = "#!/bin/sh\nsleep 60\n"

Rest = Callable[..., tuple[int, Any]]


@pytest.fixture
def rest(running_system: RunningSystem) -> Rest:
    """发一个请求：方法、地址（V 是最新版）、请求体。"""

    def call(method: str, path: str, body: Any = None, version: str = "v0.0.44") -> tuple[int, Any]:
        return running_system.call(method, path.replace("/V/", f"/{version}/"), body)

    return call


def _submit(rest: Rest, version: str = "v0.0.44", script: str = SLEEP, **job: Any) -> int:
    job = {"name": "rest", "current_working_directory": "/tmp", "standard_output": "/dev/null", **job}
    status, answer = rest("POST", "/slurm/V/job/submit", {"job": job, "script": script}, version)
    assert (status, answer["errors"]) == (200, []), answer
    job_id: int = answer["job_id"]
    return job_id


def _state(rest: Rest, job_id: int) -> str:
    state: str = rest("GET", f"/slurm/V/job/{job_id}")[1]["jobs"][0]["job_state"][0]
    return state


@pytest.mark.parametrize("version", [*OLD, *NEW])
@pytest.mark.parametrize("path", ["ping", "diag", "jobs", "nodes", "partitions", "reservations", "licenses"])
def test_every_address_answers_with_and_without_a_slash(running_system: RunningSystem, version: str, path: str) -> None:
    class Still(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    opener = urllib.request.build_opener(Still)
    for end in ("", "/"):
        request = urllib.request.Request(
            f"{running_system.url}/slurm/{version}/{path}{end}", headers={"X-SLURM-USER-TOKEN": running_system.token}
        )
        with opener.open(request, timeout=60) as answer:
            assert answer.status == 200


def test_unknown_versions_addresses_and_methods(rest: Rest) -> None:
    assert rest("GET", "/slurm/v0.0.37/jobs")[0] == 404
    assert rest("GET", "/slurm/V/nonsense")[0] == 404
    assert rest("PUT", "/slurm/V/jobs", {})[0] == 405
    assert rest("POST", "/slurm/V/reservation", {"name": "x"}, "v0.0.42")[0] == 404


def test_a_wrong_token_is_refused(running_system: RunningSystem) -> None:
    for headers in ({}, {"X-SLURM-USER-TOKEN": "nonsense"},
                    {"X-SLURM-USER-TOKEN": running_system.token, "X-SLURM-USER-NAME": "somebody-else"}):  # fmt: skip
        request = urllib.request.Request(f"{running_system.url}/slurm/v0.0.44/jobs", headers=headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=60)
        refused.value.close()
        assert refused.value.code == 401


@pytest.mark.parametrize("version", NEW)
def test_a_missing_job_is_404_in_the_answer_of_jobs(rest: Rest, version: str) -> None:
    status, answer = rest("GET", "/slurm/V/job/987654321", None, version)
    assert (status, answer["jobs"], answer["errors"][0]["error_number"]) == (404, [], 2017)
    assert answer["meta"]["plugin"]["data_parser"] == f"data_parser/{version}"
    status, answer = rest("GET", "/slurmdb/V/job/987654321", None, version)
    assert (status, answer["jobs"], answer["errors"], len(answer["warnings"])) == (200, [], [], 1)


@pytest.mark.parametrize("version", [*OLD, *NEW])
def test_an_empty_environment_does_not_break_an_update(rest: Rest, version: str) -> None:
    job_id = _submit(rest, version, hold=True, environment={"A": "1"} if version == "v0.0.38" else ["A=1"])
    for empty in ({}, []):
        status, answer = rest(
            "POST", f"/slurm/V/job/{job_id}", {"environment": empty, "comment": "c", "open_mode": "append"}, version
        )
        assert (status, answer["errors"]) == (200, [])
    status, answer = rest("POST", f"/slurm/V/job/{job_id}", {"environment": ["B=2"]}, version)
    assert (status, bool(answer["errors"])) == (500 if version in OLD else 400, True)
    assert rest("DELETE", f"/slurm/V/job/{job_id}", None, version)[0] == 200


def test_the_old_39_has_warnings_and_numbers_where_they_belong(rest: Rest) -> None:
    answer = rest("GET", "/slurm/V/nodes", None, "v0.0.39")[1]
    assert answer["warnings"] == []
    assert answer["nodes"][0]["cpu_load"].keys() == {"set", "infinite", "number"}
    assert isinstance(rest("GET", "/slurm/V/nodes", None, "v0.0.38")[1]["nodes"][0]["cpu_load"], int)


def test_what_has_no_effect_is_said_and_what_cannot_be_is_refused(running_system: RunningSystem, rest: Rest) -> None:
    job = {"name": "w", "current_working_directory": "/tmp", "hold": True, "power_flags": ["LEVEL"], "made_up": 3}
    status, answer = rest("POST", "/slurm/V/job/submit", {"job": job, "script": SLEEP})
    said = " ".join(each["description"] for each in answer["warnings"])
    assert status == 200
    assert '"power_flags"' in said
    assert '"job.made_up"' in said
    rest("DELETE", f"/slurm/V/job/{answer['job_id']}")
    for wrong in ({"container": "image"}, {"user_id": "somebody-else"}, {"tasks": "many"}, {"partition": "nowhere"},
                  {"reboot": True}, {"crontab": {"minute": "0", "hour": "3"}}, {"x11": ["FIRST_NODE"]},
                  {"cpus_per_tres": "gres/gpu:2"}, {"nodes": "many", "overcommit": True},
                  {"tres_bind": "gres/fpga:closest"}):  # fmt: skip
        status, answer = rest("POST", "/slurm/V/job/submit", {"job": {**job, **wrong}, "script": SLEEP})
        assert status in (400, 409), wrong
        assert next(iter(wrong)) in str(answer["errors"])
    for body in (None, {"job": job}, {"job": [], "script": SLEEP}, [], "text"):
        assert rest("POST", "/slurm/V/job/submit", body)[0] in (400, 415), body


def test_what_is_asked_by_tres_and_by_flags_is_done_and_shown(rest: Rest) -> None:
    job = {"name": "w", "current_working_directory": "/tmp", "hold": True, "reboot": False, "x11": [],
           "tasks": 6, "tasks_per_core": 1, "overcommit": True, "mcs_label": "red",
           "tres_bind": "gres/gpu:closest", "environment": ["A=1"]}  # fmt: skip
    status, answer = rest("POST", "/slurm/V/job/submit", {"job": job, "script": SLEEP})
    assert status == 200, answer
    shown = rest("GET", f"/slurm/V/job/{answer['job_id']}")[1]["jobs"][0]
    assert (shown["mcs_label"], shown["tasks_per_core"]["number"], shown["cpus"]["number"]) == ("red", 1, 1)
    assert (shown["cron"], shown["flags"]) == ("", [])
    rest("DELETE", f"/slurm/V/job/{answer['job_id']}")


def test_jobs_are_cancelled_by_id_and_by_condition(rest: Rest) -> None:
    name = f"many-{uuid.uuid4().hex[:8]}"
    first, second, third = (_submit(rest, name=name, hold=True) for _ in range(3))
    status, answer = rest("DELETE", "/slurm/V/jobs", {"jobs": [str(first), "987654321"]})
    assert status == 200
    assert [(each["step_id"], each["error"]["code"]) for each in answer["status"]] == [
        (str(first), 0),
        ("987654321", 2017),
    ]
    assert _state(rest, second) == "PENDING"
    ended = {"job_name": name, "job_state": ["COMPLETED"]}
    assert rest("DELETE", "/slurm/V/jobs/", ended)[1]["status"] == []
    assert rest("DELETE", "/slurm/V/jobs/", {"job_name": name, "wckey": "other"})[1]["status"] == []
    assert _state(rest, second) == "PENDING"
    assert len(rest("DELETE", "/slurm/V/jobs/", {"job_name": name})[1]["status"]) == 2
    assert {_state(rest, job_id) for job_id in (first, second, third)} == {"CANCELLED"}
    # 没有条件的不当作全部。
    assert rest("DELETE", "/slurm/V/jobs", {"signal": "TERM"})[0] == 400


def test_states_signals_and_allocations(rest: Rest) -> None:
    job_id = _submit(rest, script="#!/bin/sh\ntrap 'exit 7' USR1\nwhile :; do sleep 0.1; done\n")
    wait_until(lambda: _state(rest, job_id) == "RUNNING")
    listed = rest("GET", f"/slurm/V/jobs/state/?job_id={job_id}")[1]["jobs"]
    assert [(each["job_id"], each["job_state"]) for each in listed] == [(job_id, ["RUNNING"])]

    def failed() -> bool:
        # 陷阱可能还没有设好：没有结束就再送一次。
        rest("DELETE", f"/slurm/V/job/{job_id}?signal=USR1&flags=BATCH_JOB")
        return _state(rest, job_id) not in ("RUNNING", "COMPLETING")

    wait_until(failed)
    job = rest("GET", f"/slurm/V/job/{job_id}")[1]["jobs"][0]
    assert job["job_state"] == ["FAILED"]
    status, answer = rest("POST", "/slurm/V/job/allocate", {"job": {"name": "alloc", "hold": True, "tasks": 1}})
    assert (status, answer["errors"]) == (200, [])
    held = rest("GET", f"/slurm/V/job/{answer['job_id']}")[1]["jobs"][0]
    assert (held["batch_flag"], held["hold"]) == (False, True)
    assert rest("DELETE", f"/slurm/V/job/{answer['job_id']}")[0] == 200


def test_nodes_are_drained_and_resumed(rest: Rest) -> None:
    status, answer = rest("POST", "/slurm/V/node/node1", {"state": ["DRAIN"], "reason": "memory"})
    assert (status, answer["errors"]) == (200, [])
    node = rest("GET", "/slurm/V/node/node1/")[1]["nodes"][0]
    assert ("DRAIN" in node["state"], node["reason"]) == (True, "memory")
    assert rest("POST", "/slurm/V/nodes", {"name": ["node1"], "state": ["RESUME"]})[0] == 200
    assert rest("GET", "/slurm/V/node/node1")[1]["nodes"][0]["state"] == ["IDLE"]
    # 没有设节能：开关电源做不到。
    assert rest("POST", "/slurm/V/node/node1", {"state": ["POWER_UP"]})[0] == 409
    assert rest("POST", "/slurm/V/node/node1", {"state": ["NOSUCH"]})[0] == 400
    assert rest("DELETE", "/slurm/V/node/node1")[0] == 409
    assert rest("GET", "/slurm/V/node/nowhere")[0] == 404


def distant_reservation(name: str) -> dict[str, Any]:
    """很久以后的一个小时，root 用 node1。"""
    return {
        "name": name,
        "start_time": {"set": True, "infinite": False, "number": 4_000_000_000},
        "duration": {"set": True, "infinite": False, "number": 60},
        "node_list": ["node1"],
        "users": ["root"],
    }


@pytest.mark.parametrize("version", ["v0.0.43", "v0.0.44"])
def test_reservations_are_made_changed_and_removed(rest: Rest, version: str) -> None:
    name = f"r{uuid.uuid4().hex[:8]}"
    body = distant_reservation(name)
    status, answer = rest("POST", "/slurm/V/reservation", body, version)
    assert (status, answer["errors"], answer["reservations"][0]["name"]) == (200, [], name)
    more = {"reservations": [{"name": name, "users": ["root", "alice"]}]}
    assert rest("POST", "/slurm/V/reservations/", more, version)[0] == 200
    found = rest("GET", f"/slurm/V/reservation/{name}/", None, version)[1]["reservations"][0]
    assert (found["users"], found["node_list"], found["end_time"]["number"]) == ("root,alice", "node1", 4_000_003_600)
    assert name in {each["name"] for each in rest("GET", "/slurm/V/reservations", None, version)[1]["reservations"]}
    # 按核留的。
    one_core = {"name": name, "node_list": ["node1"], "core_count": {"set": True, "infinite": False, "number": 1}}
    assert rest("POST", "/slurm/V/reservation", one_core, version)[0] == 200
    found = rest("GET", f"/slurm/V/reservation/{name}/", None, version)[1]["reservations"][0]
    assert (found["core_count"], found["core_specializations"]) == (1, [{"node": "node1", "core": "0"}])
    assert rest("DELETE", f"/slurm/V/reservation/{name}", None, version)[0] == 200
    assert rest("DELETE", f"/slurm/V/reservation/{name}", None, version)[0] == 404


@pytest.mark.parametrize("version", ["v0.0.43", "v0.0.44"])
def test_reservation_flags_are_added_and_taken_back(rest: Rest, version: str) -> None:
    name = f"r{uuid.uuid4().hex[:8]}"
    body = distant_reservation(name) | {
        "flags": ["IGNORE_JOBS", "STATIC", "DAILY", "NO_HOLD_JOBS_AFTER_END"],
        "purge_completed": {"time": {"set": True, "infinite": False, "number": 300}},
    }
    assert rest("POST", "/slurm/V/reservation", body, version)[0] == 200

    def flags() -> set[str]:
        found = rest("GET", f"/slurm/V/reservation/{name}/", None, version)[1]["reservations"][0]
        return set(found["flags"]) - {"SPEC_NODES"}

    try:
        assert flags() == {"IGNORE_JOBS", "STATIC", "DAILY", "NO_HOLD_JOBS_AFTER_END", "PURGE_COMP"}
        change = {"name": name, "flags": ["FLEX", "NO_DAILY", "NO_STATIC"]}
        assert rest("POST", "/slurm/V/reservation", change, version)[0] == 200
        assert flags() == {"IGNORE_JOBS", "FLEX", "NO_HOLD_JOBS_AFTER_END", "PURGE_COMP"}
        refused = rest("POST", "/slurm/V/reservation", {"name": name, "flags": ["FORCE_START"]}, version)
        assert "FORCE_START" in str(refused[1]["errors"])
    finally:
        rest("DELETE", f"/slurm/V/reservation/{name}", None, version)


def test_accounting_filters(rest: Rest) -> None:
    name = f"f{uuid.uuid4().hex[:8]}"
    job_id = _submit(rest, name=name, script="#!/bin/sh\nexit 3\n")
    wait_until(lambda: _state(rest, job_id) == "FAILED")

    def ids(query: str) -> list[int]:
        status, answer = rest("GET", f"/slurmdb/V/jobs?job_name={name}&{query}")
        assert status == 200, answer
        return [each["job_id"] for each in answer["jobs"]]

    assert ids("") == ids("state=failed") == ids("start_time=now-1hour") == ids(f"step={job_id}") == [job_id]
    assert ids("state=running") == ids("end_time=2000-01-01") == ids("start_time=now%2B1hour") == []
    job = rest("GET", f"/slurmdb/V/jobs/?job_name={name}")[1]["jobs"][0]
    assert (job["exit_code"]["status"], job["exit_code"]["return_code"]["number"]) == (["ERROR"], 3)
    assert [step["step"]["id"] for step in job["steps"]] == [f"{job_id}.batch"]
    assert ids("cpus_min=1&nodes_max=1&timelimit_min=5&exit_code=3,4&cluster=scns") == [job_id]
    for query in ("cpus_min=99", "nodes_max=0", "timelimit_max=5", "exit_code=0", "cluster=other", "reason=nosuch"):
        assert ids(query) == [], query
    assert rest("GET", "/slurmdb/V/jobs?cpus_min=many")[0] == 400
    assert rest("GET", "/slurmdb/V/jobs?start_time=nonsense")[0] == 400
    assert rest("GET", "/slurmdb/V/jobs?state=nonsense")[0] == 400


def test_the_record_of_a_finished_job_is_annotated(rest: Rest, running_system: RunningSystem) -> None:
    one, two = (_submit(rest, name="noted", script="#!/bin/sh\n") for _ in range(2))
    wait_until(lambda: _state(rest, one) == _state(rest, two) == "COMPLETED")
    record = {
        "comment": {"job": "seen"},
        "derived_exit_code": {"return_code": {"set": True, "number": 4}},
        "wckey": "w",
    }
    body = {"job_id_list": [str(one), str(two)], "job_rec": record}
    status, answer = rest("POST", "/slurmdb/V/jobs/", body, "v0.0.44")
    assert (status, answer["results"]) == (200, [f"JobId={one}", f"JobId={two}"])
    job = rest("GET", f"/slurmdb/V/job/{two}", None, "v0.0.44")[1]["jobs"][0]
    assert (job["comment"]["job"], job["derived_exit_code"]["return_code"]["number"], job["wckey"]["wckey"]) == (
        "seen",
        4,
        "w",
    )
    # 有一个没有，就一个也不改。
    body = {"job_id_list": [str(one), "987654321"], "job_rec": {"comment": {"job": "changed"}}}
    assert rest("POST", "/slurmdb/V/jobs", body, "v0.0.44")[0] == 404
    assert rest("GET", f"/slurmdb/V/job/{one}", None, "v0.0.44")[1]["jobs"][0]["comment"]["job"] == "seen"
    assert rest("POST", f"/slurmdb/V/job/{one}", {"extra": "e", "tres": {}}, "v0.0.44")[0] == 200
    assert rest("POST", f"/slurmdb/V/job/{one}", {"extra": "e"}, "v0.0.43")[0] in (404, 405)
    status, answer = rest("POST", "/slurm/V/new/node", {"node_conf": "NodeName=x"}, "v0.0.44")
    assert (status, answer["errors"][0]["error_number"]) == (400, 2036)


def test_a_write_that_fails_half_way_changes_nothing(rest: Rest) -> None:
    account = f"a{uuid.uuid4().hex[:6]}"
    body = {"accounts": [{"name": account, "description": "d", "organization": "o"}, {"name": "bad name!" * 99}]}
    assert rest("POST", "/slurmdb/V/accounts", body)[0] == 400
    assert rest("GET", f"/slurmdb/V/account/{account}")[0] == 404
    body = {"accounts": [{"name": account}], "users": [{"name": "nobody2"}]}
    assert rest("POST", "/slurmdb/V/config", body)[0] == 400
    assert rest("GET", f"/slurmdb/V/account/{account}")[0] == 404


def test_accounts_and_users_are_added_together_and_listed_in_the_config(rest: Rest) -> None:
    account, user = f"a{uuid.uuid4().hex[:6]}", f"u{uuid.uuid4().hex[:6]}"
    condition = {"accounts": [account], "association": {"fairshare": 5}}
    body = {"association_condition": condition, "account": {"description": "d", "organization": "o"}}
    status, answer = rest("POST", "/slurmdb/V/accounts_association", body)
    assert (status, answer["added_accounts"]) == (200, account)
    body = {"association_condition": {"users": [user], "accounts": [account]}, "user": {"adminlevel": ["None"]}}
    status, answer = rest("POST", "/slurmdb/V/users_association/", body)
    assert (status, answer["added_users"]) == (200, user)
    config = rest("GET", "/slurmdb/V/config")[1]
    assert {each["account"] for each in config["associations"] if each["user"] == user} == {account}
    assert next(each for each in config["accounts"] if each["name"] == account)["organization"] == "o"
    # 整个配置送回去，什么也不变。
    before = {key: config[key] for key in ("accounts", "users", "associations", "qos")}
    assert rest("POST", "/slurmdb/V/config", before)[0] == 200
    after = rest("GET", "/slurmdb/V/config")[1]
    assert {key: after[key] for key in before} == before
    assert rest("DELETE", "/slurmdb/V/associations/")[0] == 400
    assert rest("DELETE", f"/slurmdb/V/association?account={account}&user={user}")[1]["removed_associations"]
    assert rest("DELETE", f"/slurmdb/V/account/{account}")[1]["removed_accounts"] == [account]
    for path, body in (("clusters", {"clusters": [{"name": "x"}]}), ("tres", {"TRES": [{"type": "cpu"}]}),
                       ("wckeys", {"wckeys": [{"name": "w", "cluster": "scns", "user": "root"}]})):  # fmt: skip
        status, answer = rest("POST", f"/slurmdb/V/{path}", body)
        assert (status, answer["errors"][0]["error_number"]) == (400, 2036)


def test_an_admin_level_takes_effect_at_once(rest: Rest, running_system: RunningSystem) -> None:
    name = f"u{uuid.uuid4().hex[:8]}"
    own = as_user(running_system, name)
    for level, operator in (("Operator", True), ("None", False)):
        assert own.call("GET", "/whoami")[1]["operator"] is not operator
        given = {"name": name, "default": {"account": "root"}, "administrator_level": [level]}
        status, answer = rest("POST", "/slurmdb/V/users", {"users": [given]})
        assert (status, answer["errors"]) == (200, [])
        assert own.call("GET", "/whoami")[1]["operator"] is operator
    assert rest("DELETE", f"/slurmdb/V/user/{name}")[0] == 200

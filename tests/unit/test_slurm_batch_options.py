"""sbatch 的选项换成 API 的 job。"""

from pathlib import Path

import pytest

from scns_conductor.slurm.session import Fatal
from scns_conductor.slurm.submit.batch_options import environment_options, job_fields, merged


def test_options_become_the_fields_of_the_job() -> None:
    job = job_fields({"job_name": "a", "ntasks": "4", "time": "1:30:00", "gpus": "a100:2", "export": "NONE"}, {})
    assert job == {
        "name": "a",
        "tasks": 4,
        "time_limit": "90",
        "tres_per_job": "gres/gpu:a100:2",
        # sbatch 自己写进作业的变量。
        "environment": {"SLURM_GPUS": "a100:2", "SLURM_EXPORT_ENV": "NONE"},
    }


@pytest.mark.parametrize(
    ("given", "minutes"), [("0", "UNLIMITED"), ("0:30", "1"), ("1:2:3", "63"), ("2-3:4:5", "3065"), ("7", "7")]
)
def test_a_time_limit_is_in_whole_minutes_and_zero_is_none(given: str, minutes: str) -> None:
    assert job_fields({"time": given}, {})["time_limit"] == minutes


def test_signal_with_batch_prefix_and_delay() -> None:
    job = job_fields({"signal": "B:SIGUSR2@30"}, {})
    assert (job["kill_warning_signal"], job["kill_warning_delay"], job["kill_warning_batch_only"]) == ("USR2", 30, True)


def test_slurm_and_scns_variables_are_not_carried_into_the_job() -> None:
    job = job_fields({}, {"A": "1", "SLURM_JOB_ID": "7", "SBATCH_QOS": "x", "SCNS_TOKEN": "秘密"})
    assert job["environment"] == {"A": "1"}


def test_sbatch_variables_are_options() -> None:
    assert environment_options({"SBATCH_PARTITION": "gpu", "HOME": "/"}) == [("partition", "gpu")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"time": "soon"}, "Invalid --time specification"),
        ({"mem": "lots"}, "Invalid --mem specification"),
        ({"signal": "@"}, "Invalid --signal specification"),
        ({"open_mode": "x"}, "Invalid --open-mode specification"),
        ({"nice": "very"}, "Invalid --nice value"),
        ({"kill_on_invalid_dep": "maybe"}, "Invalid --kill-on-invalid-dep specification"),
        ({"ntasks": "0"}, 'Invalid numeric value "0" for --ntasks.'),
        ({"clusters": "other"}, "No cluster 'other' known by database."),
    ],
)
def test_bad_values_are_refused_by_name(given: dict[str, str], message: str) -> None:
    with pytest.raises(Fatal) as found:
        job_fields(given, {})
    assert found.value.lines[0] == message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"time": "xyz"}, "Invalid --time specification"),
        ({"mem": "xyz"}, "Invalid --mem specification"),
        ({"nodes": "abc"}, '"abc" is not a valid node count'),
        ({"nodes": "3-1"}, "Maximum node count 1 is less than minimum node count 3"),
        ({"signal": "NOPE@5"}, "Invalid --signal specification"),
        ({"mail_type": "END,NOPE"}, "Invalid --mail-type specification"),
        ({"exclusive": "nope"}, "Invalid --exclusive specification"),
        ({"open_mode": "x"}, "Invalid --open-mode specification"),
        ({"signal": "0"}, "Invalid --signal specification"),
        ({"signal": "USR1@99999"}, "Invalid --signal specification"),
        ({"mail_type": ""}, "Invalid --mail-type specification"),
        ({"nice": "5000000000"}, "Invalid --nice value, out of range (+/- 2147483645)"),
        ({"priority": "-1"}, "Priority must be >= 0"),
        ({"mem_bind": "nope"}, 'unrecognized --mem-bind argument "nope"'),
        ({"gres_flags": "nope"}, "Invalid --gres-flags specification"),
        ({"acctg_freq": "task=x"}, "Invalid --acctg-freq specification: task=x"),
        ({"gpu_freq": "nope"}, "Invalid --gpu-freq argument: gpu:nope"),
        ({"delay_boot": "abc"}, "Invalid --delay-boot specification"),
        ({"wait_all_nodes": "2"}, "Invalid --wait-all-nodes specification"),
    ],
)
def test_a_bad_value_is_refused_with_slurms_words_and_exit_code(given: dict[str, str], message: str) -> None:
    """真的 sbatch 22.05.8 对这些一行错误、退出码 255（scripts/slurm_compare.py）。"""
    with pytest.raises(Fatal) as refused:
        job_fields(given, {})
    assert (refused.value.lines, refused.value.code) == ((message,), 255)


@pytest.mark.parametrize("signal", ["B:USR2@30", "SIGTERM", "R:10@5", "usr1@90"])
def test_signal_specifications_slurm_accepts(signal: str) -> None:
    assert job_fields({"signal": signal}, {})["kill_warning_signal"]


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"gpus": "4", "cpus_per_gpu": "3", "ntasks": "2"}, "cpus_per_task", 6),
        ({"gpus_per_node": "a100:2", "cpus_per_gpu": "4", "ntasks_per_node": "2"}, "cpus_per_task", 4),
        ({"gpus_per_task": "2", "cpus_per_gpu": "4", "ntasks": "3"}, "cpus_per_task", 8),
        ({"gpus": "4", "ntasks_per_gpu": "2"}, "tasks", 8),
        ({"ntasks": "5", "ntasks_per_gpu": "2"}, "tres_per_job", "gres/gpu:3"),
        ({"gpus_per_socket": "2"}, "tres_per_node", "gres/gpu:2"),
        ({"gpus_per_socket": "a100:2", "sockets_per_node": "2"}, "tres_per_node", "gres/gpu:a100:4"),
        ({"extra_node_info": "2:8:1"}, "sockets_per_node", 2),
        ({"extra_node_info": "2:8:1"}, "cores_per_socket", 8),
        ({"extra_node_info": "*:*:2"}, "threads_per_core", 2),
        ({"hint": "nomultithread"}, "threads_per_core", 1),
        ({"hint": "memory_bound"}, "tasks_per_socket", 1),
        ({"hint": "nomultithread", "threads_per_core": "2"}, "threads_per_core", 2),
        ({"ntasks_per_core": "1"}, "tasks_per_core", 1),
        ({"core_spec": "2"}, "core_specification", 2),
        ({"thread_spec": "1"}, "thread_specification", 1),
        ({"prefer": "nvme"}, "prefer", "nvme"),
        ({"tres_per_task": "cpu=2,gres/gpu:1"}, "tres_per_task", "gres/gpu:1"),
        ({"tres_per_task": "cpu=2,gres/gpu:1"}, "cpus_per_task", 2),
        ({"nodes": "1k"}, "nodes", "1024"),
        ({"nodes": "2-1k"}, "nodes", "2-1024"),
        ({"mem_per_gpu": "1G", "gres": "gpu:1"}, "memory_per_gpu", "1G"),
    ],
)
def test_options_counted_by_gpu_become_plain_ones(given: dict[str, str], field: str, value: object) -> None:
    assert job_fields(given, {})[field] == value


@pytest.mark.parametrize(
    "given",
    [{"core_spec": "x"}, {"cpus_per_gpu": "2"}, {"ntasks_per_gpu": "2"}, {"mem_per_gpu": "1G"},
     {"cpus_per_gpu": "2", "gpus": "1", "cpus_per_task": "1"}],
)  # fmt: skip
def test_an_option_that_would_change_the_job_is_refused_by_name(given: dict[str, str]) -> None:
    with pytest.raises(Fatal):
        job_fields(given, {})


def test_options_that_ask_for_what_is_so_anyway_are_accepted() -> None:
    assert "no_kill" not in job_fields({"no_kill": "off", "core_spec": "0", "nodes": "2"}, {})


@pytest.mark.parametrize(
    ("given", "nodes", "tasks"),
    [({"ntasks": "8"}, 1, "8"), ({"nodes": "2-3", "ntasks_per_node": "5"}, 2, "10"), ({"nodes": "2"}, 2, "2")],
)
def test_an_overcommitted_job_asks_for_one_task_a_node(given: dict[str, str], nodes: int, tasks: str) -> None:
    job = job_fields({**given, "overcommit": ""}, {})
    assert (job["tasks"], job.get("tasks_per_node")) == (nodes, None)
    assert job["environment"]["SLURM_OVERCOMMIT"] == "1"
    assert job["environment"]["SLURM_NTASKS"] == tasks
    # 在它里面提交的不因此也挤着。
    assert "SLURM_OVERCOMMIT" not in job_fields({}, job["environment"])["environment"]


def test_nodes_and_variables_come_from_files(tmp_path: Path) -> None:
    nodes, variables = tmp_path / "nodes", tmp_path / "variables"
    nodes.write_text("n1\nn2\n")
    variables.write_bytes(b"A=1\0B=two words\0")
    job = job_fields({"nodefile": str(nodes), "export_file": str(variables)}, {"HOME": "/home/me"})
    assert (job["required_nodes"], job["environment"]) == ("n1,n2", {"A": "1", "B": "two words"})


def test_the_last_of_requeue_and_no_requeue_counts() -> None:
    header, line = [("requeue", ""), ("time", "5")], [("no_requeue", "")]
    assert job_fields(merged(header, [], line), {})["requeue"] is False
    assert job_fields(merged(line, [], header), {})["requeue"] is True


def test_memory_on_the_command_line_wins_over_another_kind_in_the_environment() -> None:
    variables = [("mem", "1G")]
    assert merged([], variables, [("mem_per_cpu", "100")]) == {"mem_per_cpu": "100"}
    assert merged([], variables, []) == {"mem": "1G"}
    with pytest.raises(Fatal, match="mutually exclusive"):
        merged([("mem", "1G")], [], [("mem_per_cpu", "100")])


@pytest.mark.parametrize(
    "given",
    [{"hint": "nomultithread"}, {"mem_bind": "verbose,local"}, {"mem_bind": "map_mem:0,1"}, {"profile": "task,energy"},
     {"acctg_freq": "task=30,energy=5"}, {"cpu_freq": "low-high:Performance"}, {"gpu_freq": "memory=high,verbose"},
     {"propagate": "STACK,RLIMIT_CORE"}, {"extra_node_info": "2:4:1"}, {"wait_all_nodes": "1"}, {"kill_on_invalid_dep":
     "YES"}, {"priority": "TOP"}],
)  # fmt: skip
def test_hints_in_the_forms_of_the_manual_are_accepted(given: dict[str, str]) -> None:
    job_fields(given, {})


def test_segments_are_kept_in_one_switch_or_refused_by_name() -> None:
    assert "required_switches" not in job_fields({"segment": "1", "nodes": "8"}, {})
    assert job_fields({"segment": "8", "nodes": "4-8"}, {})["required_switches"] == 1
    with pytest.raises(Fatal, match="--segment"):
        job_fields({"segment": "4", "nodes": "8"}, {})


def test_a_binding_of_gpus_has_two_spellings_and_the_wait_for_switches_too() -> None:
    job = job_fields({"tres_bind": "verbose,gres/gpu:single:2", "switches": "2", "wait4switch": "0:10"}, {})
    assert job["environment"]["SLURM_GPU_BIND"] == "verbose,single:2"
    assert (job["required_switches"], job["maximum_switch_wait_time"]) == (2, 10)
    assert job_fields({"switches": "2@0:20", "wait4switch": "0:10"}, {})["maximum_switch_wait_time"] == 20

"""scns submit 的选项：命令行与 #SBATCH 行，换成 API 的字段。"""

import contextlib
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.cli.script_input import header_tokens
from scns_conductor.cli.submit import submit
from scns_conductor.cli.submit_options import JOB_OPTIONS, exported, header_options, job_fields, with_optional_values


def job_of(header: str, **environment: str) -> dict[str, Any]:
    return job_fields(header_options(header_tokens(header)), environment)


def test_header_lines_are_read_as_slurm_does() -> None:
    script = (
        "#!/bin/bash\n"
        "#SBATCH --job-name='我的 作业'   # 名字\n"
        "#SBATCH\t-n4 -c 2\n"
        "\n"
        "# 普通的注释，don't\n"
        "##SBATCH --ntasks=99\n"
        "#SCNS --mem 16G --exclusive  \n"
        "#SBATCH -n 8\n"
        "echo 开始\n"
        "#SBATCH --ntasks=100\n"
    )
    job = job_of(script)
    assert (job["name"], job["tasks"], job["cpus_per_task"]) == ("我的 作业", 8, 2)
    assert (job["memory_per_node"], job["exclusive"]) == ("16G", "true")


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("--gpus=a100:2", "tres_per_job", "gres/gpu:a100:2"),
        ("--gpus-per-node=2 --gres=fpga:1", "tres_per_node", "gres/gpu:2,fpga:1"),
        ("--no-requeue", "requeue", False),
        ("--nice", "nice", 100),
        ("--nice=-5", "nice", -5),
        ("--array=0-9%3", "array", "0-9%3"),
        ("--kill-on-invalid-dep=yes", "kill_on_invalid_dependency", True),
        ("-N2-4", "nodes", "2-4"),
        ("-H", "hold", True),
        ("--ntasks-per-node 3", "tasks_per_node", 3),
        ("-t 1-12", "time_limit", "1-12"),
    ],
)
def test_an_option_becomes_its_field(line: str, field: str, value: object) -> None:
    assert job_of(f"#SBATCH {line}\n")[field] == value


def test_the_warning_signal() -> None:
    job = job_of("#SBATCH --signal=B:SIGUSR2@30\n")
    found = job["kill_warning_signal"], job["kill_warning_delay"], job["kill_warning_batch_only"]
    assert found == ("USR2", 30, True)
    assert job_of("#SBATCH --signal=10\n")["kill_warning_delay"] == 60


@pytest.mark.parametrize(
    "line",
    ["--tyme=1", "--ntasks=0", "--time=0", "--mem=16Q", "--signal=@", "--job-name='x", "-n", "--open-mode=no", "extra"],
)
def test_what_is_wrong_in_a_header_is_a_usage_error(line: str) -> None:
    with pytest.raises(click.UsageError):
        job_of(f"#SBATCH {line}\n")


def test_options_after_the_script_belong_to_the_script() -> None:
    words = ["-p", "gpu", "--exclusive", "-Hc", "4", "job.sh", "--exclusive", "-n", "1"]
    assert with_optional_values(words, submit.params) == [
        *["-p", "gpu", "--exclusive=true", "-Hc", "4", "job.sh", "--exclusive", "-n", "1"]
    ]
    context = submit.make_context("submit", list(words))
    assert context.params["file"] == "job.sh"
    assert context.params["arguments"] == ("--exclusive", "-n", "1")
    assert (context.params["partition"], context.params["cpus_per_task"], context.params["hold"]) == ("gpu", 4, True)


def test_the_environment_goes_along_without_secrets_or_the_submitter_s_own_job() -> None:
    own = {"PATH": "/bin", "SCNS_TOKEN": "秘密", "SLURM_JOB_ID": "1", "A": "1", "旧": "\udcff"}
    assert exported("ALL", own) == {"PATH": "/bin", "A": "1"}
    assert exported("NONE", own) == {}
    assert exported("A,B=2,C", own) == {"A": "1", "B": "2"}
    assert exported("ALL,A=3", own) == {"PATH": "/bin", "A": "3"}


def test_every_field_is_one_the_server_takes() -> None:
    from scns_conductor.api.job_request import JobRequest

    known = set(JobRequest.model_fields)
    assert {option.field for option in JOB_OPTIONS if option.field} <= known
    JobRequest.model_validate(job_of("#SBATCH -n4 --mem=1G -t 10 --exclusive --signal=USR1 --nice --hold -G 2\n"))


@given(st.text(max_size=200))
def test_any_script_is_read_or_refused_plainly(script: str) -> None:
    with contextlib.suppress(click.UsageError):
        job_of(script)

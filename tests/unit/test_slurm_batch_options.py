"""sbatch 的选项换成 API 的 job。"""

import pytest

from scns_conductor.slurm.batch_options import environment_options, job_fields
from scns_conductor.slurm.session import Fatal


def test_options_become_the_fields_of_the_job() -> None:
    job = job_fields({"job_name": "a", "ntasks": "4", "time": "1:30:00", "gpus": "a100:2", "export": "NONE"}, {})
    assert job == {
        "name": "a",
        "tasks": 4,
        "time_limit": "1:30:00",
        "tres_per_job": "gres/gpu:a100:2",
        "environment": {},
    }


def test_zero_time_means_no_limit() -> None:
    assert job_fields({"time": "0"}, {})["time_limit"] == "UNLIMITED"


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
        ({"contiguous": ""}, "--contiguous is not supported by this system"),
        ({"clusters": "other"}, "--clusters is not supported by this system"),
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

"""--acctg-freq、--profile：多久采一次样，谁说了算。"""

import pytest
import sqlalchemy as sa

from scns_conductor.worker.agent.job_samples import JobSamples
from scns_conductor.worker.agent.launch_orders import sample_interval_s


@pytest.mark.parametrize(
    ("frequency", "profile", "node_s", "expected"),
    [
        (None, None, 10.0, None),
        ("30", None, 10.0, 30.0),
        ("task=5", None, 10.0, 5.0),
        ("energy=3,task=7,network=9", None, 10.0, 7.0),
        ("energy=3", None, 10.0, None),
        ("0", None, 10.0, 0.0),
        ("task=0", None, 0.0, 0.0),
        ("5", "None", 10.0, 0.0),
        (None, "Task", 10.0, None),
        # 节点不采而作业要的。
        (None, "All", 0.0, 30.0),
        (None, "Lustre", 0.0, None),
        ("nonsense", "nonsense", 10.0, None),
    ],
)
def test_what_the_job_said(frequency: str | None, profile: str | None, node_s: float, expected: float | None) -> None:
    assert sample_interval_s(frequency, profile, node_s) == expected


def test_the_node_samples_as_often_as_the_most_eager_job() -> None:
    samples = JobSamples(
        sa.create_engine("postgresql+psycopg://"), "n1", 10.0, boot_time=lambda: 0.0, gpu=lambda _: None
    )
    assert samples.every_s() == 10.0
    samples.ask((1, 0), {"SLURM_ACCTG_FREQ": "task=2"})
    samples.ask((2, 0), {"SLURM_ACCTG_FREQ": "60"})
    samples.ask((3, 0), {"SLURM_PROFILE": "None"})
    assert samples.every_s() == 2.0

"""RLScheduler 论文的表：Lublin-1 逐格相同（其余踪迹见 benchmarks/rlscheduler_table.py）。"""

from pathlib import Path

import pytest

from scns_conductor.simulator.rlscheduler import reproduce, sequence_starts
from scns_conductor.simulator.swf import read_swf

DATA = Path(__file__).parent.parent / "data"
# 论文 README 的表 V、VI：平均有界慢化与利用率，Lublin-1。
PUBLISHED = {
    False: {
        "FCFS": (7273.77, 0.657),
        "WFP3": (19753.53, 0.747),
        "UNICEP": (22274.74, 0.691),
        "SJF": (277.35, 0.762),
        "F1": (258.37, 0.816),
    },
    True: {
        "FCFS": (235.82, 0.868),
        "WFP3": (133.87, 0.864),
        "UNICEP": (307.23, 0.883),
        "SJF": (73.31, 0.778),
        "F1": (75.07, 0.840),
    },
}


def test_the_sampled_sequences_are_those_of_the_paper():
    assert sequence_starts(10_000) == [1981, 2756, 4299, 8850, 3316, 2714, 5228, 7762, 4022, 7085]
    assert sequence_starts(202_871) == sequence_starts(10_000)


@pytest.mark.parametrize("backfill", [False, True])
def test_the_published_figures_come_out_to_the_printed_precision(backfill):
    results = reproduce(read_swf(DATA / "lublin_256.swf.gz"), backfill=backfill)
    rounded = {
        name: (round(cell.avg_bounded_slowdown, 2), round(cell.utilization, 3)) for name, cell in results.items()
    }
    assert rounded == PUBLISHED[backfill]

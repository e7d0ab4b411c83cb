"""why 的真话测试：在真系统上造出许多情形，问、照建议去改、等它应验；每种情形一行，最后是总数。

python scripts/why_truth.py --rounds 3 --slots 4 --seed 1 [--only 名字,名字] [--json FILE]
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from running_system import start_system
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import issue_token
from why_situations import SITUATIONS, Verdict, judge_all, options_of, set_up


def tell(verdict: Verdict, seed: int, spent_s: float) -> None:
    """一行一个。"""
    shown = "对" if not verdict.mistakes else "错：" + "；".join(verdict.mistakes)
    print(
        f"{verdict.name} #{seed}（{spent_s:.0f} s）{verdict.reason} "
        f"建议 {verdict.came_true}/{verdict.suggested} 时刻 {verdict.kept}/{verdict.dated} {shown}",
        flush=True,
    )


def main() -> int:
    """跑完返回有没有错。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="每种情形几遍，参数各不相同")
    # 一个用户同时至多问调度器四个问题。
    parser.add_argument("--slots", type=int, default=4, choices=range(1, 5), help="同时跑几个，各用两个节点")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="只跑这些情形，逗号分隔")
    parser.add_argument("--json", type=Path, help="把逐个的结果写到这里")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(SITUATIONS)
    wanted = [(name, options.seed + number) for number in range(options.rounds) for name in names]
    scratch = Path(tempfile.mkdtemp(prefix="scns-"))
    try:
        arguments, environment = options_of(options.slots)
        with start_system(scratch / "why", *arguments, environment=environment) as system:
            slots = set_up(system, issue_token(Settings(data_dir=system.data_dir), "alice"), options.slots)
            found = judge_all(slots, wanted, tell)
    finally:
        shutil.rmtree(scratch)
    if options.json:
        options.json.write_text(json.dumps([vars(item) for item in found], ensure_ascii=False, indent=1))
    wrong = sum(bool(item.mistakes) for item in found)
    suggested, came_true = sum(item.suggested for item in found), sum(item.came_true for item in found)
    dated, kept = sum(item.dated for item in found), sum(item.kept for item in found)
    print(f"situations={len(found)} wrong={wrong} suggestions={came_true}/{suggested} dates={kept}/{dated}")
    return int(wrong > 0 or len(found) < len(wanted))


if __name__ == "__main__":
    sys.exit(main())

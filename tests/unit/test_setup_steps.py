"""scns setup --dry-run 说的每一步。"""

from scns_conductor.local.setup.steps import Step, run_steps


def told(steps: list[Step]) -> list[str]:
    said: list[str] = []
    run_steps(steps, dry_run=True, tell=lambda line: said.append(line.split()[0]))
    return said


def test_a_check_after_steps_still_to_be_made_is_not_called_missing() -> None:
    """新的机器上只看：设置还没有写，连不连得上数据库现在说不了，不是少了什么。"""
    made = Step("设置", lambda: False, lambda: None)
    check = Step("数据库应答", lambda: False)
    assert told([made, check]) == ["要做", "再看"]
    assert told([Step("设置", lambda: True, lambda: None), check]) == ["已有", "缺少"]

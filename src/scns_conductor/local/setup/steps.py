"""一步：看它做好没有、去做、说明。--dry-run 只看不做。"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from scns_conductor.core.errors import ConductorError


class SetupFailed(ConductorError):
    """一步没有做成；说明里有补救办法。"""


@dataclass(frozen=True, slots=True)
class Step:
    """title 是要有的东西；done 说有没有（不改任何东西），make 去建，equivalent 是等价的命令，给人看。

    done 与 make 做不成时抛 SetupFailed 或 OSError；只核对、没有什么可建的 make 是 None。remedy 是补救办法。
    """

    title: str
    done: Callable[[], bool]
    make: Callable[[], object] | None = None
    equivalent: tuple[str, ...] = ()
    remedy: str = ""


def run_steps(steps: Iterable[Step], *, dry_run: bool, tell: Callable[[str], object], quiet: bool = False) -> bool:
    """依次做；返回有没有（dry_run 时：会不会有）改动。quiet 时已有的不说。

    做不成抛 SetupFailed；前面做好的留着，改好之后再跑一遍接着做。
    """
    changed = False

    def present(step: Step) -> None:
        if not quiet:
            tell(f"  已有  {step.title}")

    for step in steps:
        if dry_run:
            changed |= _look(step, tell, present, after_others=changed)
            continue
        try:
            if step.done():
                present(step)
                continue
            if step.make is None:
                raise SetupFailed(f"{step.title}：没有。{step.remedy}")
            step.make()
            if not step.done():
                raise SetupFailed(f"{step.title}：做了，却还是没有。{step.remedy}")
        except OSError as error:
            where = f"（{error.filename}）" if error.filename else ""
            remedy = step.remedy or "请看那里的权限、属主与剩下的空间；改好之后再跑一遍"
            raise SetupFailed(f"{step.title}：{error.strerror or error}{where}。{remedy}") from error
        tell(f"  做好  {step.title}")
        changed = True
    return changed


def _look(step: Step, tell: Callable[[str], object], present: Callable[[Step], object], *, after_others: bool) -> bool:
    """只看：缺的说出来，返回缺不缺。after_others：前面还有没做的步，只核对的看不成，到时才看。"""
    try:
        if step.done():
            present(step)
            return False
        why = step.remedy
    except (SetupFailed, OSError) as error:
        why = str(error)
    if step.make is not None:
        tell(f"  要做  {step.title}")
    elif after_others:
        tell(f"  再看  {step.title}（前面的做好之后）")
    else:
        tell(f"  缺少  {step.title}：{why}")
    for command in step.equivalent:
        tell(f"          {command}")
    return True

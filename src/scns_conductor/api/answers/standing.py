"""crontab 与触发。"""

from typing import Annotated, Any

from scns_conductor.api.answers.shown import Shown, answer, field, page_of, row_of
from scns_conductor.core.models import Crontab, Trigger

CRONTAB = row_of(Crontab, "Crontab")
TRIGGER = row_of(Trigger, "Trigger", omit=("template", "seen", "hits"))
TRIGGERS = page_of("Triggers", "triggers", TRIGGER, "触发")
TRIGGER_ID = answer("TriggerId", "定下的触发。", {"trigger_id": field(int, "编号")})
TRIGGER_IDS = answer("TriggerIds", "删掉的触发。", {"trigger_ids": field(list[int], "编号")})

CrontabAnswer = Annotated[dict[str, Any], Shown(CRONTAB)]
TriggersAnswer = Annotated[dict[str, Any], Shown(TRIGGERS)]
TriggerIdAnswer = Annotated[dict[str, Any], Shown(TRIGGER_ID)]
TriggerIdsAnswer = Annotated[dict[str, Any], Shown(TRIGGER_IDS)]

"""建立作业步与对它做的事的回答。"""

from typing import Annotated

from scns_conductor.api.answers.shown import Shown, described
from scns_conductor.core.answers.steps import StepActed, StepAttached, StepCreated, StepRelaunched

StepCreatedAnswer = Annotated[StepCreated, Shown(described(StepCreated))]
StepAttachedAnswer = Annotated[StepAttached, Shown(described(StepAttached))]
StepActedAnswer = Annotated[StepActed, Shown(described(StepActed))]
StepRelaunchedAnswer = Annotated[StepRelaunched, Shown(described(StepRelaunched))]

"""数组的进度、占用的历史、要的与用掉的、节点的简表。"""

from typing import Annotated

from scns_conductor.api.answers.shown import Shown, described
from scns_conductor.core.answers.reports import (
    AccountSeries,
    ArrayProgress,
    ArrayProgresses,
    DependencyGraph,
    Efficiency,
    GraphJob,
    NodeMap,
    UserEfficiency,
    Utilization,
    Waits,
)

ARRAY = described(ArrayProgress)
GRAPH_JOB = described(GraphJob)
DEPENDENCY_GRAPH = described(DependencyGraph)
ACCOUNT_SERIES = described(AccountSeries)
WAITS = described(Waits)
UTILIZATION = described(Utilization)
USER_EFFICIENCY = described(UserEfficiency)
EFFICIENCY = described(Efficiency)
EfficiencyAnswer = Annotated[Efficiency, Shown(EFFICIENCY)]
NODE_MAP = described(NodeMap)
NodeMapAnswer = Annotated[NodeMap, Shown(NODE_MAP)]
ArraysAnswer = Annotated[ArrayProgresses, Shown(described(ArrayProgresses))]
UtilizationAnswer = Annotated[Utilization, Shown(UTILIZATION)]
DependencyGraphAnswer = Annotated[DependencyGraph, Shown(DEPENDENCY_GRAPH)]

"""搬来的历史；归档与装回。"""

from typing import Annotated

from scns_conductor.api.answers.shown import Shown, described
from scns_conductor.core.answers.history import HistoryArchived, HistoryImported, HistoryLoaded

HistoryImportedAnswer = Annotated[HistoryImported, Shown(described(HistoryImported))]
HistoryArchivedAnswer = Annotated[HistoryArchived, Shown(described(HistoryArchived))]
HistoryLoadedAnswer = Annotated[HistoryLoaded, Shown(described(HistoryLoaded))]

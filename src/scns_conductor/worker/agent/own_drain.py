"""节点自己为一件会过去的事做的排空：有了就排、过去了就撤，变了才写。"""

from sqlalchemy.engine import Engine

from scns_conductor.worker.agent.registration import drain_node, undrain_node


class OwnDrain:
    """prefix 是自己写的原因的开头：撤的只是它们，别人的排空不动。"""

    def __init__(self, engine: Engine, node_name: str, prefix: str) -> None:
        self._engine = engine
        self._node_name = node_name
        self._prefix = prefix
        # 还没有说过时不知道上一次启动的代理为此排空过没有。
        self._standing: bool | None = None

    def tell(self, reason: str | None) -> None:
        """reason 是为什么，过去了是 None；数据库不在时抛 DATABASE_ERRORS，下次再来。"""
        standing = reason is not None
        if standing == self._standing:
            return
        if reason is None:
            undrain_node(self._engine, self._node_name, self._prefix)
        else:
            assert reason.startswith(self._prefix)
            drain_node(self._engine, self._node_name, reason)
        self._standing = standing

"""看板的指标页。"""

from collections.abc import Iterator
from pathlib import Path

from scns_conductor.metrics_page import Metric, gauge, serve_metrics, trouble
from scns_conductor.web.feed import Feed


def serve(listen: str, data_dir: Path, feed: Feed) -> None:
    """在 listen（主机:端口；空的是不开）上答。"""

    def collect() -> Iterator[Metric]:
        topics, places = feed.watched
        yield gauge("scns_web_tabs", "开着的标签页", feed.tabs)
        yield gauge("scns_web_topics", "轮询着的不同的事", topics)
        yield gauge("scns_web_watchers", "各标签页一共看着几处", places)
        yield from trouble("scns_web_question", "轮询者问 API 一次多久", feed.questions)

    serve_metrics(listen, "web", collect, data_dir=data_dir, labels={"process": "web"})

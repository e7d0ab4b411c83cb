"""scns 命令的入口。"""


def main() -> None:
    """占位：由命令行一节实现。"""
    raise SystemExit("尚未实现")

"""scns completion：打印 shell 的补全脚本。"""

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """打印补全脚本。

    bash 用户在 ~/.bashrc 里写 eval "$(scns completion bash)"，zsh 同样；
    fish 写进 ~/.config/fish/completions/scns.fish。
    """
    from click.shell_completion import get_completion_class

    from scns_conductor.cli.main import scns

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(scns, {}, "scns", "_SCNS_COMPLETE").source())

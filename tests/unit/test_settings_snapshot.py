"""代理的设置：与 load_settings 的一样，只是没有 pydantic。"""

from collections.abc import Iterator

import pytest

from scns_conductor.core import settings_snapshot
from scns_conductor.core.errors import SettingsError
from scns_conductor.core.settings import Settings, load_settings
from scns_conductor.core.settings_snapshot import read_settings


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SCNS_CONFIG", "/dev/null")
    monkeypatch.setenv("SCNS_DATABASE_URL", "postgresql://scns:hush@db/scns")
    monkeypatch.setenv("SCNS_NODE_FEATURES", "a,b")
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


def test_it_says_what_the_settings_say() -> None:
    found, wanted = read_settings(), load_settings()
    plain = [name for name in Settings.model_fields if "Secret" not in str(Settings.model_fields[name].annotation)]
    assert {name: getattr(found, name) for name in plain} == {name: getattr(wanted, name) for name in plain}
    assert (found.spool_path, found.script_path, found.elastic) == (
        wanted.spool_path,
        wanted.script_path,
        wanted.elastic,
    )
    assert found.database_url.get_secret_value() == "postgresql://scns:hush@db/scns"
    assert found.database_direct_url is None


def test_secrets_are_not_shown_and_nothing_changes() -> None:
    found = read_settings()
    assert "hush" not in repr(vars(found))
    with pytest.raises(AttributeError, match="node_name"):
        found.node_name = "other"  # type: ignore[misc]


def test_what_is_wrong_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCNS_API_PORT", "nonsense")
    with pytest.raises(SettingsError, match="SCNS_API_PORT"):
        read_settings()
    monkeypatch.delenv("SCNS_API_PORT")
    monkeypatch.setenv("SCNS_NODE_NAMES", "x")
    with pytest.raises(SettingsError, match="SCNS_NODE_NAME"):
        read_settings()


def test_a_reader_that_breaks_says_how(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(settings_snapshot, "_read", lambda: 1 // 0)
    with pytest.raises(SettingsError, match="意外"):
        read_settings()
    assert "ZeroDivisionError" in capfd.readouterr().err

"""令牌：只有用本系统的密钥签发、没有过期的才认。"""

from pathlib import Path

import jwt
import pytest

from scns_conductor.core.errors import SettingsError, Unauthorized
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import ensure_key, issue_token, read_key, verify_token


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


def test_an_issued_token_names_its_user_and_role(settings: Settings) -> None:
    token = issue_token(settings, "alice")
    admin = issue_token(settings, "root", admin=True)
    key = read_key(settings.jwt_key_path)
    assert (verify_token(key, token).user_name, verify_token(key, token).admin) == ("alice", False)
    assert verify_token(key, admin).admin


def test_the_key_is_private_and_made_once(settings: Settings) -> None:
    first = ensure_key(settings.jwt_key_path)
    assert settings.jwt_key_path.stat().st_mode & 0o777 == 0o600
    assert ensure_key(settings.jwt_key_path) == first


def test_expired_forged_and_unsigned_tokens_are_refused(settings: Settings) -> None:
    key = ensure_key(settings.jwt_key_path)
    with pytest.raises(Unauthorized) as expired:
        verify_token(key, issue_token(settings, "alice", lifetime_s=-10))
    assert expired.value.code == "token_expired"
    claims = {"sun": "root", "iat": 1, "exp": 99999999999, "scns_admin": True}
    for forged in (jwt.encode(claims, "x" * 64, algorithm="HS256"), jwt.encode(claims, None, algorithm="none"), "a.b"):
        with pytest.raises(Unauthorized) as refused:
            verify_token(key, forged)
        assert refused.value.code == "token_invalid"


def test_an_admin_claim_that_is_not_true_makes_no_admin(settings: Settings) -> None:
    key = ensure_key(settings.jwt_key_path)
    token = jwt.encode({"sun": "bob", "iat": 1, "exp": 99999999999, "scns_admin": "yes"}, key, algorithm="HS256")
    assert not verify_token(key, token).admin


def test_a_key_others_can_read_is_refused(settings: Settings) -> None:
    ensure_key(settings.jwt_key_path)
    settings.jwt_key_path.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        read_key(settings.jwt_key_path)

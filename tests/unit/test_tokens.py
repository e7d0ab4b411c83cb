"""令牌：只有用本系统的密钥签发、没有过期的才认。"""

import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from scns_conductor.core.errors import SettingsError, Unauthorized
from scns_conductor.core.job_token import job_token, parse_job_token
from scns_conductor.core.settings import Settings
from scns_conductor.core.signing_keys import ensure_key, read_key
from scns_conductor.core.tokens import issue_token, verify_token


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


def claims_of(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"sun": "alice", "iat": now, "exp": now + 60, **changed}


@pytest.mark.parametrize(
    "name",
    ["\ud800", "", "a b", "a/b", "../x", "a\n", "a\0", "-rf", "名", "a" * 300, 1000, None, ["alice"], "a:b", "a,b"],
    ids=repr,
)
def test_a_name_no_system_user_can_have_is_refused(settings: Settings, name: Any) -> None:
    key = ensure_key(settings.jwt_key_path)
    token = jwt.encode(claims_of(sun=name), key, algorithm="HS256")
    with pytest.raises(Unauthorized) as refused:
        verify_token(key, token)
    assert refused.value.code == "token_invalid"
    if isinstance(name, str):
        with pytest.raises(ValueError, match="用户名"):
            issue_token(settings, name)


@pytest.mark.parametrize("name", ["alice", "Bob.Smith", "svc-1", "_apt", "host$", "1000", "LAB\\carol", "dan@lab.org"])
def test_every_name_a_system_user_can_have_is_accepted(settings: Settings, name: str) -> None:
    key = ensure_key(settings.jwt_key_path)
    assert verify_token(key, issue_token(settings, name)).user_name == name


@pytest.mark.parametrize(
    "changed",
    [{"exp": float("inf")}, {"exp": 10**400}, {"exp": "x"}, {"exp": []}, {"iat": float("inf")}, {"iat": -5},
     {"iat": float("nan")}, {"iat": {}}, {"iat": 10**400}, {"iat": int(time.time()) + 3600}, {"exp": None}],
    ids=lambda changed: f"{next(iter(changed))}-{type(next(iter(changed.values()))).__name__}",
)  # fmt: skip
def test_times_that_make_no_sense_are_refused(settings: Settings, changed: dict[str, Any]) -> None:
    key = ensure_key(settings.jwt_key_path)
    with pytest.raises(Unauthorized) as refused:
        verify_token(key, jwt.encode(claims_of(**changed), key, algorithm="HS256"))
    assert refused.value.code in ("token_invalid", "token_expired")


def test_the_issuer_is_checked_and_slurms_own_tokens_work_unless_forbidden(settings: Settings) -> None:
    key = ensure_key(settings.jwt_key_path)
    own = issue_token(settings, "alice")
    slurm = jwt.encode(claims_of(), key, algorithm="HS256")
    stranger = jwt.encode(claims_of(iss="elsewhere"), key, algorithm="HS256")
    for token, wanted in ((own, True), (slurm, True), (stranger, False)):
        assert accepted(key, token, require_issuer=False) == wanted
    for token, wanted in ((own, True), (slurm, False), (stranger, False)):
        assert accepted(key, token, require_issuer=True) == wanted


def accepted(key: bytes, token: str, *, require_issuer: bool) -> bool:
    try:
        return verify_token(key, token, require_issuer=require_issuer).user_name == "alice"
    except Unauthorized:
        return False


def test_a_token_lasts_thirty_days_unless_told_otherwise(settings: Settings) -> None:
    claims = jwt.decode(issue_token(settings, "alice"), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 30 * 86400


@pytest.mark.parametrize(
    ("job_id", "attempt"),
    [("9999999999999999999", "0"), (str(2**63), "0"), ("1", "9999999999"), ("٣", "0"), ("1", "٣"), ("0", "0")],
)
def test_a_job_token_of_numbers_no_job_has_is_none(job_id: str, attempt: str) -> None:
    assert parse_job_token(f"scnsjob.{job_id}.{attempt}.{'0' * 64}") is None
    assert parse_job_token(f"scnsjob.1.0.{'0' * 64}\n") is None


def test_a_job_token_names_its_job() -> None:
    assert parse_job_token(job_token(b"k" * 32, 2**63 - 1, 999_999_999, 1)) == (2**63 - 1, 999_999_999)


def test_a_key_others_can_read_is_refused(settings: Settings) -> None:
    ensure_key(settings.jwt_key_path)
    settings.jwt_key_path.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        read_key(settings.jwt_key_path)

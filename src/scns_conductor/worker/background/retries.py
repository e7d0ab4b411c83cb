"""没有送到的多久之后再试：间隔加倍，两天还不行就不再试。邮件与 webhook 同一个规矩。"""

FIRST_RETRY_S = 30.0
LAST_RETRY_S = 3600.0
GIVE_UP_S = 2 * 86400.0
NEVER = -1.0


def retry_s(attempts: int, age_s: float) -> float:
    """试过 attempts 次（至少一次）、等了 age_s 秒的，多少秒之后再试；NEVER 是不再试。"""
    if age_s > GIVE_UP_S:
        return NEVER
    return float(min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(16, max(0, attempts - 1))))

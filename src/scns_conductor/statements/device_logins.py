"""设备登录：开始、批准或拒绝、取走。"""

import sqlalchemy as sa

# 过期的扔掉。
DROP_OLD_DEVICES = sa.text("DELETE FROM device_logins WHERE expires_at < clock_timestamp()")
# 开始一个，返回它；一个地址、全部各有上限，满了就没有。
BEGIN_DEVICE = sa.text(
    "INSERT INTO device_logins (device_digest, user_code, host, address, expires_at) "
    "SELECT :digest, :user_code, :host, :address, clock_timestamp() + make_interval(secs => :lifetime_s) "
    "WHERE (SELECT count(*) FROM device_logins) < :most "
    "AND (SELECT count(*) FROM device_logins WHERE address = :address) < :most_address RETURNING user_code"
)
# 等着批准的一个。
WAITING_DEVICE = sa.text(
    "SELECT host, address, created_at, expires_at FROM device_logins "
    "WHERE user_code = :user_code AND user_name IS NULL AND NOT denied AND expires_at > clock_timestamp()"
)
# 批准或拒绝；没有等着的是空。
DECIDE_DEVICE = sa.text(
    "UPDATE device_logins SET user_name = CASE WHEN :allow THEN :user_name END, denied = NOT :allow "
    "WHERE user_code = :user_code AND user_name IS NULL AND NOT denied AND expires_at > clock_timestamp() "
    "RETURNING host, address, created_at, expires_at"
)
# 终端来问：有没有结果。
ASK_DEVICE = sa.text(
    "SELECT user_name, denied FROM device_logins WHERE device_digest = :digest AND expires_at > clock_timestamp()"
)
# 取走：一个码只换一次令牌。
TAKE_DEVICE = sa.text("DELETE FROM device_logins WHERE device_digest = :digest RETURNING user_name, denied")

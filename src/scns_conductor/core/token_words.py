"""令牌的范围与角色的名字；命令也用，不带上签名的库。"""

# 令牌的范围：一项也没有写是不限。
READ_SCOPE, SUBMIT_SCOPE = "read", "submit"
SCOPES = (READ_SCOPE, SUBMIT_SCOPE)
# 令牌自己给的角色；user 的再看 users 表。
ROLES = ("user", "operator", "administrator", "auditor")

"""HTTP 接口：接收、校验、应答。业务在 services；这里不写 SQL。"""

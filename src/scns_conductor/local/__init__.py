"""组合根：内嵌 PostgreSQL 与 Valkey，scns up。"""

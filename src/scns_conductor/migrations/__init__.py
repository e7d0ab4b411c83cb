"""Alembic 迁移。"""

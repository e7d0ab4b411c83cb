"""Python 客户端，只说 HTTP。"""

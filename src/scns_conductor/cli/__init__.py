"""scns 命令，只说 HTTP。"""

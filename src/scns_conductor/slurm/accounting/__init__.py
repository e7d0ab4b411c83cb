"""sacct、sacctmgr、sreport、sshare：记账。"""

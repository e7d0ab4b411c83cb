"""scontrol、scancel、sdiag、strigger：查看与控制。"""

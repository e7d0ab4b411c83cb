"""srun、sattach、sbcast、sstat：作业步。"""

"""squeue 与 sprio：排队与运行中的作业。"""

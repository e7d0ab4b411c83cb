"""HTTP 层：接收、校验、回答。只可依赖 services（以及 core 的类型）。"""

"""看板自己的话（不是 API 说的）用来访者的语言说。"""

from scns_conductor.language.catalogue import english


def spoken(text: str, language: str) -> str:
    """这句话；language 是 en 时是英文。"""
    return english(text) if language == "en" else text

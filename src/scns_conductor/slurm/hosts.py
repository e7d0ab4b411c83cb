"""列表的切分：逗号分开，方括号里的不分。"""


def split_list(text: str) -> list[str]:
    """12,13_[1,3] -> 12 与 13_[1,3]；空的丢掉。"""
    words, depth = [""], 0
    for letter in text:
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == "," and depth <= 0:
            words.append("")
        else:
            words[-1] += letter
    return [word.strip() for word in words if word.strip()]

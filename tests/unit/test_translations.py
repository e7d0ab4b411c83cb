"""英文的译文目录：每一条都有英文，填好了的话也认得出来。"""

import re
import sys
from pathlib import Path

from scns_conductor.language.catalogue import CHINESE, PLACE, english

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import messages


def test_every_message_has_a_translation() -> None:
    catalogue = messages.updated()
    missing = [message.id for message in catalogue if message.id and not message.string]
    assert missing == [], f"make messages，再填上 {messages.PO} 里空着的"
    stale = {message.id for message in messages.known()} - {message.id for message in catalogue}
    assert stale == set(), "源码里已经没有了：make messages"


def test_translations_are_english_and_keep_their_places() -> None:
    for message in messages.known():
        if message.id:
            assert sorted(place[1] for place in PLACE.finditer(message.id)) == sorted(
                place[1] for place in PLACE.finditer(message.string)
            ), message.id
            assert not CHINESE.search(message.string), message.id


def test_every_filled_template_is_recognised() -> None:
    """每个模板填上拉丁字，译出来不剩中文，填的还在。"""
    for message in messages.known():
        places = [place[1] for place in PLACE.finditer(message.id)]
        if not message.id or not places or not re.sub(PLACE, "", message.id).strip():
            continue
        filled = PLACE.sub(lambda place: f"w{place[1]}", message.id).replace("{{", "{").replace("}}", "}")
        found = english(filled)
        assert not CHINESE.search(found), (message.id, found)
        for name in places:
            assert f"w{name}" in found, (message.id, found)

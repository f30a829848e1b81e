"""Texts of strangers made fit for a prompt: nothing invisible, nothing that looks like the turns of a chat, cut fairly.

What a reader would see stays; what only a machine would see goes. Characters that chat templates and answer formats are made of
are replaced by look-alikes: <|im_start|> becomes ‹|im_start|›.
"""

# ruff: noqa: RUF001, RUF002  (look-alikes are meant)
from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

from zelo.judges.remembering import remembered

VERSION = 2
"""Part of every prompt id: raise it when the same text would be shown differently."""

CUT = " [...]"
"""Follows a text that was cut."""

_KEPT_FACTOR = 4  # of a longer text only so many times the budget is read: what is dropped later need not be cleaned
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f"  # control characters but tab and line ends
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Joiners are needed between letters of some scripts and within emoji, one at a time; elsewhere they can only hide something.
_JOINERS = re.compile("(?<![^\x00-\u02ff])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\u02ff])|[\u200c\u200d]{2,}")
_SURROGATES = re.compile("[\ud800-\udfff]")
_LINE_ENDS = re.compile("\r\n?|[\x85\u2028\u2029]")
_BLANKS = re.compile(r"\n[ \t\u00a0\u3000]*(?:\n[ \t\u00a0\u3000]*){2,}")
_SPACES = re.compile(r"[ \t\u00a0\u3000]{40,}")
_TAGS = (
    "bos|eos|pad|unk|start_of_turn|end_of_turn|turn|think|thinking|reasoning|system|user|human|assistant|model|tool|tool_call"
    "|tool_response|function_call|instructions?|score|order|answer|query|question|document|documents|text|passage|doc"
)
# Control tokens of chat templates (<|...|>, <s>, <start_of_turn>, <think>, [INST], [|user|], <<SYS>>), tags of our own answer formats,
# and lines that pose as ours. An `s` after a blank needs its end at once: "a < s and b > c" is a comparison.
_TOKENS = re.compile(
    r"<[|｜][^\n<>]{0,60}[|｜]>"
    r"|<\s{0,3}[|｜]\s{0,3}/?[\w:.-]{1,60}\s{0,3}[|｜]\s{0,3}>"
    rf"|<\s{{0,3}}/?(?:\s{{0,3}}(?:{_TAGS})|(?<=[</])s)\b[^\n<>]{{0,60}}>"
    rf"|<\s{{0,3}}/?\s{{0,3}}(?:{_TAGS}|s)\s{{0,3}}>"
    r"|<\s{0,3}/?\s{0,3}(?:(?:[bes]o[sdtmp]|pad|unk|sep|cls|[gs]?mask)(?:_token)?|unused_?\d{1,5}|extra_id_\d{1,5}|seed:[\w:]{1,40}"
    r"|(?:begin|beginning|start|end)[_▁]?of[_▁]?\w{1,30})\s{0,3}/?>"
    r"|<</?\s{0,3}SYS\s{0,3}>>"
    r"|\[\s{0,3}\|\s{0,3}/?[\w:.-]{1,60}\s{0,3}\|\s{0,3}\]"
    r"|\[\s{0,3}[gs]MASK\s{0,3}\]"
    r"|\[\s{0,3}[0-9a-f]{8,64}\s{1,3}(?:end\s{1,3}of\s{1,3})?(?:document|query)\b[^\n\[\]]{0,20}\]"
    r"|\[/?\s{0,3}(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|SYS)\s{0,3}\]",
    re.IGNORECASE,
)
_LOOKALIKES = str.maketrans("<>[]＜＞［］﹤﹥", "‹›⟦⟧‹›⟦⟧‹›")
# Full-width and small forms, and letters of mathematics: a model reads them as the plain ones.
_WIDE = {
    code: plain
    for codes in (range(0xFE50, 0xFE70), range(0xFF01, 0xFF5F), range(0x1D400, 0x1D800))
    for code in codes
    if len(plain := unicodedata.normalize("NFKC", chr(code))) == 1 and plain.isascii()
}
_HEADING = re.compile(
    r"^([ \t]{0,8})(?:#{1,6}[ \t]{0,4}|\*{1,3})?((?:system|assistant|instructions?)[^\n:*]{0,24}|user|human|model|response)"
    r"[ \t]{0,3}\*{0,3}:\*{0,3}",
    re.IGNORECASE | re.MULTILINE,
)


def neutralize(text: str, most: int = 0) -> str:
    """Return a text as it is shown to a model.

    Removed: invisible, bidirectional, tag and control characters (joiners stay between letters that need them), lone surrogates,
    more than one blank line, long runs of blanks. Disarmed: tokens of chat templates, tags of answer formats, and headings that
    look like a turn ("System:" at the start of a line becomes "System -").

    Args:
        text: as it came.
        most: the characters that will be shown; of a text that is much longer only the beginning is read. 0 = all.
    """
    if most:
        text = text[: _KEPT_FACTOR * most]
    return _neutralize(text)


@remembered(3 * 2**20)
def _neutralize(text: str) -> str:
    if not text.isascii():
        text = _INVISIBLE.sub("", _SURROGATES.sub("\ufffd", _LINE_ENDS.sub("\n", text)))
        text = _JOINERS.sub("", text)
    else:
        text = _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text))
    plain = folded(text)
    if "<" in plain or "[" in plain:
        text = replaced(text, _TOKENS.finditer(plain), lambda token: token.translate(_LOOKALIKES))
    if ":" in text:
        text = _HEADING.sub(r"\1\2 -", text)
    return _SPACES.sub(" ", _BLANKS.sub("\n\n", text)).strip()


def folded(text: str) -> str:
    """Return a text of the same length with plain characters in place of full-width ones and letters of mathematics."""
    return text if text.isascii() else text.translate(_WIDE)


def replaced(text: str, found: Iterable[re.Match[str]], change: Callable[[str], str]) -> str:
    """Return a text with the places of matches changed, which may have been found in its folded form."""
    parts, end = [], 0
    for match in found:
        parts += [text[end : match.start()], change(text[match.start() : match.end()])]
        end = match.end()
    return "".join([*parts, text[end:]])


def cut_fairly(first: str, second: str, each: int) -> tuple[str, str]:
    """Cut two texts to `each` characters; what a shorter one leaves of its share goes to the other. Cuts are marked."""
    if len(first) + len(second) <= 2 * each:
        return first, second
    share = max(each, 2 * each - min(len(first), len(second)))
    return cut(first, share), cut(second, share)


def cut(text: str, most: int) -> str:
    """Return at most `most` characters of a text and the mark of a cut: at a blank if one is near, never within a character.

    A character on the screen may be several in the string: a letter with its accents, emoji with their joiners.
    """
    if len(text) <= most:
        return text
    end = most
    for back in range(min(40, most // 2)):
        if text[most - back].isspace():
            end = most - back
            break
    else:
        for _ in range(16):
            if end and (unicodedata.combining(text[end]) or text[end] in "\u200c\u200d" or text[end - 1] == "\u200d"):
                end -= 1
    return text[:end].rstrip() + CUT

"""Find the letter in a reply, by a ladder of strategies, and say how often letters are right.

A wrong letter is worse than none: a rung fires only where the reply has said its answer, and what a reply only weighs
(an option among others, a supposition, a thought that does not end) is no answer. The first four rungs read what
decides; of several decisions the last counts, so that a mind changed on the way is followed. The rung that found the
letter is recorded with every answer: a model that stops following its format is seen in these counts before it is seen
in the score.

Every pattern takes linear time: its repeats are possessive or bounded.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from schemas.interval import wilson
from schemas.record import LETTERS, Letter

NONE = "none"


class Found(NamedTuple):
    """What one rung reads in a reply."""

    letter: Letter | None
    """None: the reply names several and does not decide."""
    at: int
    """Where in the text; of several decisions the last counts."""


def extract(text: str) -> tuple[Letter, str] | None:
    """Return the letter a reply gives and the strategy that found it; None if it gives none."""
    *parts, last = _NEXT_QUESTION.split(_said(text))
    for part in parts:  # a model that does not stop goes on with a question of its own: the first answer is ours
        decided, name = _decision(part)
        if decided and decided.letter:
            return decided.letter, name
    found, name = _decision(last)
    if found is None:
        found, name = _guess(last)
    return (found.letter, name) if found and found.letter else None


def answer(text: str, id: str) -> tuple[Letter, str]:
    """Return a reply's letter and strategy; where there is none, a letter drawn by the question's id and `none`."""
    drawn = LETTERS[hashlib.sha256(id.encode()).digest()[0] % 4]
    return extract(text) or (drawn, NONE)


def accuracy(verdicts: Iterable[bool]) -> dict[str, float | int | list[float]]:
    """Return n, the share of right answers and its interval, as metrics files hold them."""
    known = list(verdicts)
    right = sum(known)
    return {
        "n": len(known),
        "accuracy": round(right / max(1, len(known)), 4),
        "wilson95": [round(end, 4) for end in wilson(right, len(known))],
    }


def _said(text: str) -> str:
    """Return what a reply says, without what it thinks, in plain marks and simplified characters."""
    *_, said = _THOUGHT_ENDS.split(text.translate(_PLAIN))
    return _END.split(_OPEN_THOUGHT.sub("", said), maxsplit=1)[0]


def _decision(text: str) -> tuple[Found | None, str]:
    """Return the last decision and the rung that read it; without a letter if it is doubted after and not taken up."""
    last, by = None, NONE
    for name in DECIDING:
        said = STRATEGIES[name](text, last.at if last else 0)
        if said:
            by = by if last and last.letter == said.letter else name
            last = said
    doubts = list(_DOUBT.finditer(text, last.at)) if last else []
    if doubts and not _SURE.search(text, doubts[-1].end()):
        last, by = claim(text, doubts[-1].end()) or Found(None, len(text)), "claim"
    return last, by


def _guess(text: str) -> tuple[Found | None, str]:
    for name, strategy in STRATEGIES.items():
        if name not in DECIDING and (said := strategy(text, 0)):
            return said, name
    return None, NONE


# The rungs. Each reads text as `_said` leaves it, from where the rungs above it found something: only what is said
# later outweighs that.


def first_character(text: str, start: int = 0) -> Found | None:
    """The reply starts with the letter, closed by its end, the line's end or punctuation: `B`, `(B)`, `B. …`."""
    match = _BARE.match(text)
    if not match:
        match = _BEFORE_TEXT.match(text)
        if not match or _REJECTED.match(text, match.end()) or _lists_options(text):
            return None
    return Found(_letter(match[1]), match.end(1))


def output_tag(text: str, start: int = 0) -> Found | None:
    """The last `<output>`, or `<answer>`, of a chain; one without a letter decides nothing."""
    found = list(_TAG.finditer(text, start))
    if not found:
        return None
    said = first_character(found[-1][1]) or answer_phrase(found[-1][1])
    return Found(said.letter if said else None, found[-1].end())


def answer_phrase(text: str, start: int = 0) -> Found | None:
    """The last 答案：B, 正确选项是B, "answer": "B" or the answer is B, and the like in other languages."""
    return _last(text, start, (_PHRASE, _PHRASE_AND_TEXT))


def expression(text: str, start: int = 0) -> Found | None:
    """The last \\boxed{B}, 选B, 应为B, 只剩B, choose B, I'd say B or it must be B."""
    return _last(text, start, _CHOICES)


def claim(text: str, start: int = 0) -> Found | None:
    """The only option called right: B正确, B is correct, or one line of a list of options; several decide nothing."""
    claims = (match for pattern in _CLAIMS for match in pattern.finditer(text, start))
    found = [said for match in claims if not _NEGATED.search(_clause(text, match)) and (said := _stated(text, match))]
    lines = (line for line in _OPTION_LINE.finditer(text, start) if _is_called_right(line[2]))
    right = {said.letter for said in found} | {_letter(line[1]) for line in lines}
    return Found(right.pop() if len(right) == 1 else None, len(text)) if right else None


def position(text: str, start: int = 0) -> Found | None:
    """The last line is a letter, one option, or ends with a letter in brackets: `B`, `B. 日内瓦`, `日内瓦（B）`."""
    *before, last = ("", *(line for line in text.splitlines() if line.strip()))
    one_of_a_list = before and (_OPTION_LINE.match(before[-1]) or _BRACKETED.match(before[-1]))
    if one_of_a_list or _NEGATED.search(last):
        return None
    said, match = first_character(last), _BRACKETED.match(last)
    letter = said.letter if said else _letter(match[1]) if match else None
    return Found(letter, len(text)) if letter else None


def frequency(text: str, start: int = 0) -> Found | None:
    """The option spoken of at least twice, without a no, and more than all others; only of a reply that ends."""
    if not text.rstrip().endswith(_STOPS):
        return None
    clauses = [clause for clause in _CLAUSE_END.split(text) if not _NEGATED.search(clause)]
    counted = Counter(_letter(a or b) for clause in clauses for a, b in _OPTION.findall(clause))
    letter, count = max(counted.items(), key=lambda item: item[1], default=("A", 0))
    return Found(letter, len(text)) if count > max(1, counted.total() - count) else None


def _last(text: str, start: int, patterns: Iterable[re.Pattern[str]]) -> Found | None:
    found = [said for pattern in patterns for match in pattern.finditer(text, start) if (said := _stated(text, match))]
    return max(found, key=lambda said: said.at, default=None)


def _stated(text: str, match: re.Match[str]) -> Found | None:
    """Return what a match says; None if that is supposed, denied, asked or somebody else's."""
    clause = _clause(text, match)
    if _SUPPOSED.search(clause) or _DENIED.search(clause) or _REJECTED.match(text, match.end(1)):
        return None
    several = _MORE.match(text, match.end(1)) or _LISTED.search(text[max(0, match.start(1) - 12) : match.start(1)])
    return Found(None if several else _letter(match[1]), match.start(1))


def _clause(text: str, match: re.Match[str]) -> str:
    """Return what stands before a match in its clause."""
    return _CLAUSE_END.split(text[max(0, match.start() - 60) : match.start()])[-1]


def _lists_options(text: str) -> bool:
    return [mark[1] for mark in _OPTION_MARK.finditer(text[:2000])][:2] == ["A", "B"]


def _is_called_right(line: str) -> bool:
    return bool(_RIGHT.search(line)) and not _NEGATED.search(line)


def _letter(character: str) -> Letter:
    return LETTERS["ABCD".index(character.upper())]


# What a reply is made plain by: letters, marks and characters that mean the same; what marks up is left out.
_PLAIN = str.maketrans(
    "ＡＢＣＤａｂｃｄⒶⒷⒸⒹ（）［］【】：，．！？；＝“”‘’「」『』"
    "選擇項應該為確對錯當終論結綜個還與會這並無後類級組線團隊號點輪題據從開剛讓審視檢認過們樣麼嗎隻現幾於來實說誤敘傾",
    'ABCDabcdABCD()[][]:,.!?;=""\'\'""""'
    "选择项应该为确对错当终论结综个还与会这并无后类级组线团队号点轮题据从开刚让审视检认过们样么吗只现几于来实说误叙倾",
    "*`$_#\u200b\ufeff",
)
_THOUGHT_ENDS = re.compile("</think(?:ing)?>")
_OPEN_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?=<output>|<(?:final)?answer>|\Z)", re.DOTALL)
_END = re.compile(r"<\|im_?end|<\|end|</s>")
_NEXT_QUESTION = re.compile(
    r"\n\s{0,9}(?:问题|题目|question|human|user|用户|Q)\s?\d{0,3}\s?[:.\n]|<\|?im_?start", re.IGNORECASE
)
_TAG = re.compile(r"<(?:output|(?:final)?answer)>([^<]*+)")

# Around a letter that is an answer. After it: not A股, B超, C语言, B-52, C++, D.H. Lawrence, a matter of.
_CLOSED = (
    r"(?![-+#'’]\w|\+|\.[A-Z]\.|\.\s[A-Z]\.\s[A-Z])(?="
    r"[^\S\n]{0,3}(?:\n|\Z|[^\w\s]|[项选因由这即而且并故所和与及或还跟哦吧了啊]|理由|根据|的(?:理由|原因|依据)"
    r"|です|である|입니다|이다)"
    r"|\s{1,3}(?i:because|since|as|for|given|which|and|or|but|in|here|due|based|that|so|with|among"
    r"|instead|rather|not)\b)"
)
_MARK = r"[\s(\"'\[{]{0,4}+(?:\\(?:text|mathrm|mathbf|textbf|bf)\{?\s?\(?)?"
_NAME = r"(?:(?:选项|第?[一二三四][个项](?:选项)?|(?i:option|choice|letter))\s?)?"
_LETTER = rf"{_MARK}{_NAME}{_MARK}([A-Db-d]|a(?=\)))(?:[A-D]{{1,3}}(?!\w))?+{_CLOSED}"

_START = r"\s{0,20}(?:assistant\s{1,3})?[(\"'\[]{0,3}(?:选项|[Oo]ption)?\s?[(\"'\[]{0,2}"
_BARE = re.compile(
    rf"{_START}([A-Da-d])[)\]\"'.。,!;:]{{0,4}}[^\S\n]{{0,9}}(?:\Z|\n(?!\s{{0,9}}(?!\1)[A-D]\W{{0,4}}(?:\n|\Z)))"
)
_BEFORE_TEXT = re.compile(
    rf"{_START}([A-D](?!'\w|\.[A-Z]\.|\.\s[A-Z]\.\s[A-Z])(?=[)\]\"'.。:;!,、<]|\s[–—-]\s)|[a-d](?=[.)]))"
    r"[)\]\"'.。:;!,、]{0,4}+\s{0,3}+"
    r"(?![(\"]?[A-D]\s{0,2}(?:[.、,)/:;。\n]|\Z|[和或与及都均皆两三]|and\b|or\b))"
)
_OPTION_MARK = re.compile(r"(?:(?<=[\s(,;。、与和及])|^)([A-D])(?:选?项)?[.、:)]")

_HEAD = (
    r"(?:答案|正解|解答|(?<!\w)答(?=:)|(?<!不)正确的?(?:选[项择]|说法|表述|一项|(?=[是为应]))"
    r"|(?:最佳|最优|最终|我的|最合适)的?选[项择]|的选项(?=[是为])"
    r"|정답|答え|(?:適切な|適当な|正しい)(?:もの|の|選?择?肢)(?=は)"
    r"|(?i:answers?|\bans(?=[:.\s])|\b(?:correct|right|best|final|proper)\s(?:option|choice|one|letter)"
    r"|\bmy\s(?:choice|pick)"
    r"|\bonly\s(?:option|choice|one)(?:\s\w{1,12}){0,5}(?=\sis\b)"
    r"|respuesta(?:\scorrecta)?|resposta(?:\scorreta)?|r[ée]ponse(?:\scorrecte)?|antwort"
    r"|[\"'](?:selected|chosen|correct|final)?(?:output|choice|option|result))(?![a-z]))"
)
_IS = (
    r"(?:[\s\])\"'}:=→>–—-]|[是为即就则便乃]|选(?!项)择?|应[该当]?|可能|大概|显然|必然|必须|只能|肯定|确实"
    r"|仍然?|依然|还|改|定|显而易见|很?明显|当然|自然|最终"
    r"|は|은|는"
    r"|(?i:is|are|was|(?:would|should|must|will|might|may|could|can only|has to|seems to|appears to)\sbe|therefore|thus"
    r"|then|hence|clearly|indeed|still|actually|definitely|probably|likely|most|simply|now|given|here|either|both"
    r"|es|est|ist|é"
    r"|la|letra|opción|lautet|to\s(?:this|the|that|your)\s(?:question|problem))\b)"
)
_PHRASE = re.compile(rf"{_HEAD}{_IS}{{0,12}}+{_LETTER}")
_PHRASE_AND_TEXT = re.compile(
    rf"{_HEAD}[\s\])\"']{{0,3}}+(?:应该?|应当)?(?:是|为|:|is\b|was\b)\s?"
    r"(?!not\b|不|n't|either\b)[^\n。;,!?()]{1,60}+\(([A-D])\)"
)

_CHOICES = (
    re.compile(
        r"\\boxed\{\s?(?:\\(?:text|mathrm|mathbf|textbf|bf)\{?\s?)?(?:选项|[Oo]ption)?\s?\(?([A-D])(?![A-Za-z0-9])"
    ),
    re.compile(
        r"(?:选(?!项)(?:择|取|定|了|出|中|用)?(?:了|为|是|的是|答案)?:?"
        r"|(?:应该?|应当|(?<!也)就|(?<![A-D])(?<![A-D]\s)还|只能|必然|肯定|一定|无疑|显然|所以|因此|因而|故|那么|而|改)(?:是|为|成|选)"
        r"|(?:只剩下?|剩下的?(?:只有|就是|是)|更正|修正|订正)(?:为|是|后)?:?|我猜(?:是|选)?|倾向于?选?择?|得出"
        r"|(?i:\b(?:choose|select|pick|choosing|selecting|picking|(?:go|going|went|stick|sticking)\swith"
        r"|opt(?:ing)?\sfor"
        r"|settle\son|lean(?:ing)?\stowards?|leav(?:es|ing)(?:\sus)?(?:\swith)?(?:\sonly)?|left\swith(?:\sonly)?"
        r"|I(?:'d|'ll|\swould|\swill)?\s(?:say|answer|guess|think|believe)(?:\sit's|\sit\sis)?"
        r"|(?:it|that|this)(?:'s|\sis|\swould\sbe)"
        r"(?:\s(?:definitely|clearly|obviously|actually|therefore|still|indeed))?"
        r"|(?:must|should|has\sto|can\sonly)\sbe|(?:chang|switch|revis|correct)\w{0,6}(?:\s\w{1,10}){0,3}\sto"
        r"|(?:correction|update|edit):)(?:\sthe)?(?![a-z])))"
        rf"{_LETTER}"
    ),
    # Without a verb, so the letter has to end the sentence.
    re.compile(
        r"(?:所以|因此|因而|故|综上(?:所述)?|于是|总之|结论(?=:)|(?i:\b(?:so|thus|therefore|hence|overall|definitely|clearly"
        r"|certainly|obviously|conclusion(?=:)|but(?:\srather)?)\b))[,:]?"
        rf"{_LETTER}(?=[\s)\"'\]]{{0,3}}(?:[。.!]|\n|\Z))"
    ),
    re.compile(
        rf"(?:只有|唯有|仅有?|(?i:\bonly)\s){_NAME}{_MARK}([A-D])[)\"'\]]?\s?(?:选?项)?\s?(?:是|才|完全|最){{0,2}}"
        r"(?:正确|符合|对|满足|成立|合适|\s?(?:is|answers|fits|matches|works|satisfies|meets|remains|describes)\b)"
    ),
)
_UNCONTRADICTED = r"(?![^。\n]{0,30}(?:但|不过|却|然而|[吗?]|\b(?:but|however|though)\b))"
_CLAIMS = (
    re.compile(
        r"(?<![A-Za-z0-9])([A-D])[)\"'\].]?\s?(?:选?项)?\s?(?:才|都|均|也|更|最|是|为|完全|的?(?:说法|表述|描述|内容|叙述)){0,3}+\s?"
        r"(?:正确|对的|合适|恰当|符合|准确|贴切|妥当|正解|(?:本题|最佳|最终|标准|该题)?的?答案|[✓✅√☑✔]"
        r"|(?<=最)(?:贴近|契合|全面|完整|切题)"
        rf"|(?<=才是).{{1,6}}(?:表述|说法|描述|选择)){_UNCONTRADICTED}"
    ),
    re.compile(
        r"(?<![A-Za-z0-9])([A-D])[)\"'\]]?\s(?:(?i:(?:is|seems|looks|appears)"
        r"(?:\s(?:to\sbe|clearly|therefore|thus|indeed|also"
        r"|the|only|most|more|my|a|exactly)\b){0,4}+\s(?:correct|right|best|better|answer|appropriate|choice|option"
        r"|accurate|suitable|precise|plausible|complete)"
        rf"|(?:fits|matches|satisfies|meets|best\s\w{{2,12}}s)\b)){_UNCONTRADICTED}"
    ),
    re.compile(
        r"(?:即|也就是|对应|匹配|吻合|(?i:\b(?:corresponds?\sto|match(?:es|ing)?|which\sis|equals|i\.e)\b[.,]{0,2}))的?(?:是|为)?"
        rf"\s?(?=选项|答案|(?i:option|choice|answer)|[A-D](?:。|选?项))(?:答案|(?i:answer))?{_LETTER}"
    ),
    re.compile(r"(?<![A-Za-z0-9])([A-D])(?:选?项)[^。\n不]{0,14}当选(?=[。,;\n]|\Z)"),
)
_OPTION_LINE = re.compile(
    r"^[^\S\n]{0,9}(?:[-•·|]\s|\d\.\s)?(?:选项|[Oo]ption\s)?\(?([A-D])(?:选?项)?(?:[.、:)]|(?=\s[|✓✅√☑✔❌✗✘×]))(.*)$",
    re.MULTILINE,
)
_RIGHT = re.compile(
    r"(?:^|[\s,.;。:(—–-])(?:正确|[Cc]orrect|[Rr]ight)(?=[\s,.;。!:)]|$)|(?:是正确的|(?:说法|表述|描述)正确)(?=[,.;。!)]|$)"
    r"|符合(?:题意|题干|题目|要求|原文|史实|事实)|[✓✅√☑✔]"
)
_BRACKETED = re.compile(r"[^()]{2,200}+\(([A-D])\)[.。!]?\s{0,9}\Z")
_OPTION = re.compile(
    r"(?:选项|[Oo]ption\s|[Cc]hoice\s)\(?([A-D])(?![A-Za-z0-9])|(?<![A-Za-z0-9])([A-D])\)?\s?(?:选项|项)"
)
_STOPS = tuple("。.!?)\"'")
_CLAUSE_END = re.compile(r"[,.;:。!?\n]")

# What takes back, supposes or denies.
_SUPPOSED = re.compile(
    r"如果|若(?!干)|假如|假设|倘|要是|即使|哪怕|除非|是否|误|以为|有人|很多人|许多人|不少|有些?(?:同学|考生|学生)|乍看|看似|似乎"
    r"|起初|一开始|最初|原本|本来|之前|原先|先前|备选|候选|第[一二三四五六七八九十0-9]{1,3}小?[题问]"
    r"|(?i:\b(?:if|unless|whether|suppos\w*|assum\w*|at\sfirst|first\sglance|initially|originally|tempt\w*|one\smight"
    r"|previous\w*|(?:some|many)\s(?:people|students|might|would|may))\b)"
)
_DENIED = re.compile(
    r"(?:不|不[能应该可宜会要是]|不(?:认为|觉得|建议|同意)|不应该|不可以|不能说|别|勿|未|没有?|莫|避免|排除|并非"
    r"|而非|错误的?|不正确的?|干扰|请|为什么"
    r"|(?i:(?:\bnot|n't|\bnever|\bcannot|\bavoid|\binstead\sof|\brather\sthan)(?:\s\w{1,12})?"
    r"|\bwrong|\bin|incorrect|\bno))\s?\Z"
)
_REJECTED = re.compile(
    r"[)\]\"'}]{0,3}\s?(?:选?项|这一?[个项](?:选项)?)?\s?(?:是|就|显然|明显|(?i:is|are|was)\s)?\s?"
    r"(?:不|错|有误|的话|吗|\?|❌|✗|✘|×|(?i:wrong|incorrect|not\s(?:correct|right)|false)\b)"
)
_MORE = re.compile(
    r"(?:[A-D]{1,3}(?![A-Za-z])|[)\]\"'}\s]{0,4}(?:\([^()]{0,40}\)\s?)?(?:"
    r"(?:[、/&]|,?\s?(?:和|与|及|以及|或者?|还是|跟|(?:and|or|nor)\b))\s?(?:选项|选|[Oo]ption\s)?[(\"']?[A-D](?![A-Za-z])"
    r"|(?:,\s?[(\"']?[A-D][)\"']?){1,3}+\s?(?:[\]}.。;\n]|\Z|都|均|and\b|or\b|和|或)"
    r"|[,、]?\s?(?:也|又|亦)?(?:有可能|可能|或许)(?:是|选|为)?\s?[A-D]))"
)
_LISTED = re.compile(
    r"[A-D][)\"']?\s?(?:选?项)?(?:[、/]|,?\s?(?:和|与|及|以及|或者?|还是|and|or))\s?(?:选项|[Oo]ption\s)?[(\"']?\Z"
)
_NEGATED = re.compile(
    r"不|没|非(?!洲)|错|误|排除|无关|混淆|[❌✗✘×]"
    r"|(?i:\bnot\b|n't\b|\bincorrect|\bwrong|\bfalse\b|\bneither\b|eliminat|rule[sd]?\sout)"
)
_DOUBT = re.compile(
    r"(?:\A|[\s。.!?…,])(?:等等|等一下|慢着|且慢|不对(?:不对)?|不)(?=[,.。!…:])|仔细(?:一想|想想|再看)|再一想"
    r"|让我们?(?:再|重新)|我(?:需要|要|得|应该)?(?:再|重新)(?=[检审考看思想])"
    r"|重新审题|再想想|(?i:\bwait\b(?=[,.!…—–:]|\sno\b)|\bhold\son\b|\blet\sme\s(?:re-?\w+|double)"
    r"|\bhmm\b|\bno,|\bor\s(?:maybe|perhaps|possibly)\b)"
)
_SURE = re.compile(r"无误|没错|没有问题|不变|确认(?:了|正确|是)|(?i:confirmed|checks?\sout|still\sholds)")

# The ladder, surest first.
STRATEGIES: dict[str, Callable[[str, int], Found | None]] = {
    "first_character": first_character,
    "output_tag": output_tag,
    "answer_phrase": answer_phrase,
    "expression": expression,
    "claim": claim,
    "position": position,
    "frequency": frequency,
}
DECIDING = ("first_character", "output_tag", "answer_phrase", "expression")
"""The rungs that read what a reply says its answer is; the others guess."""

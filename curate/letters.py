"""Option letters inside text: found where they surely name an option, never guessed.

A chain speaks of its options by letter (选项B, （B）, 答案是B, option B) and also of things whose names hold a letter
(DNA, 维生素C, B细胞, A股). When options change places, the first must follow and the second must stay. So every capital
A to D that stands alone has to be a reference, part of a known name or the English article; one that is none of them
makes the whole text `Unclear`, and its record keeps its order.

A letter is a reference for what stands beside it: a word that leads to it (选项, 答案是), one that judges it (B项,
B错误), or the option's own text (2015年（B）, B. 2015年). Whether it is one does not depend on which of the four it is,
so that a rewritten text is as clear as it was.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

from msgspec import Struct
from msgspec.structs import replace

from schemas.record import LETTERS, Item, Letter, Options, Record

BREAK = "\0"
"""Stands between texts that are searched in one go; no reference reaches across it."""

_CAPITALS = "ABCDＡＢＣＤ"
_L = f"[{_CAPITALS}]"
_CAPITAL = re.compile(_L)
# A letter beside another letter or a digit is part of a word.
_WORD = "A-Za-z0-9Ａ-Ｚａ-ｚ０-９À-ÖØ-öø-ɏ"
_AFTER = rf"(?![{_WORD}])"
_AND = r"(?:\s*[、，,/和与及或與]\s*|\s*,?\s+(?:and|or)\s+)"
_SPACE = " \u3000"
LOOK = 24  # characters before a letter that may lead to it
_OPENING = "（(【[「『“\"‘'*"
_CLOSING = "）)】]」』”\"’'*"
_BEFORE_IT, _AFTER_IT = frozenset(_OPENING + _SPACE), frozenset(_CLOSING + _SPACE)
_STOP = r"$|[\n\0，。；：、！？,;:!?…）)\]】」”\"’'<*}（(]|\.(?![A-Za-z])"

# The letter first and what stands before it second, so that the search is for one of eight characters.
LETTERS_TOGETHER = re.compile(rf"{_L}(?<![{_WORD}].)(?:{_AND}?{_L})*{_AFTER}")
"""One letter, or several: A、C和D, AB."""

SURE_LEAD = re.compile(r"(?:选项|選項|(?<![A-Za-z])(?:[Oo]ptions?|[Cc]hoices?))$")
"""What leads to a reference, whatever follows it."""
_SURE_LAST = frozenset("项項nes")
WORD_OF_IT = re.compile(r"[-+#＋－](?!\s)|['’](?!s\b)")
"""But this, which makes the letter part of a word: 选项C-17."""
LEAD = re.compile(
    r"(?:(?:答案|正确的?选项|正確的?選項|结论|結論|nswer|(?<![A-Za-z])(?:[Oo]ption|[Cc]hoice)(?= (?:is|was)))\s*"
    r"(?:不|并不|並不|并非|並非|应该|應該|应当|應當|应|應)?(?:是|为|為|选|選|is|was)?\s*[:：]?"
    r"|(?<![当當入评評竞競候筛篩挑普海大人补補改推精])[选選][择擇]?\s*[:：]?"
    r"|(?<![A-Za-z])(?:[Cc]hoose|[Ss]elect|[Pp]ick)|排除[了掉]?|\\boxed\{(?:\\text\{)?)$"
)
"""What leads to a reference, if END follows: such words could also begin a name (选C语言, 答案是D国)."""
_LEAD_LAST = frozenset("案项項论論rns不非该該当當应應是为為选選择擇:：etk除了掉{")
END = re.compile(
    rf"[{_SPACE}]*(?:{_STOP}|[选選]?[项項](?!目)|[是为為最更较較因而作正符])"
    r"| +(?:because|since|as|is|are|and|but|or|which|for|not|over|rather|instead|due)\b"
)

ITEM = re.compile(rf"[{_SPACE}]*[一二两兩三四]?[个個]?[选選]?[项項](?![目链鏈])")
"""What follows a letter that names an option, if no NOUN stands before it."""
JUDGED = re.compile(
    rf"[{_SPACE}]*(?:[二两兩三四]者"
    r"|(?:也|又|都|均|皆|才|是|[为為]|[应應][该該当當]?|可以?|[无無]法|最|更|[显顯]然|明[显顯]|就|全|完全|同[样樣]|仍|[较較]){0,3}"
    r"(?:(?:不|并不|並不|并非|並非|未)?"
    r"(?:正[确確]|符合?|成立|准[确確]|準確|恰[当當]|合理|[属屬][实實]|可取|合[题題]意|[对對](?=STOP))"
    r"|[错錯](?:[误誤]|(?=STOP))|有[误誤]|排除))".replace("STOP", _STOP)
    + r"| +(?:is|are|was|were)(?: both| all| also| clearly| the| therefore| thus)*"
    r" (?:not |in)?(?:correct|right|wrong|true|false|accurate|consistent)\b"
    r"| +(?:can|must|should|may) (?:both |all |also )?be (?:excluded|eliminated|ruled out|discarded|rejected)\b"
)
"""What follows one, if BEGINNING stands before it."""
TOGETHER = re.compile(rf"[{_SPACE}]*(?:都|均|皆)")
"""And what follows several: A、C都早. Not AB、CD都长, which may be lines."""
BEGINNING = re.compile(
    r"(?:^|[\n\0，。；：、！？,.;:!?…—（(“「>】\]）)]|[而故则則但且即若]|因此|所以|因[为為]|由于|由於|从而"
    r"|[只没沒唯]有|[仅僅]有?|可[见見知]|[说說]明|表明|比[较較]|[显顯]然|[综綜]上|于是|於是|[不经經]过|同[理样樣]|反之|此外"
    r"|其[中余餘]|另外|[认認][为為]|判[断斷]|[确確][定认認]|排除|看|至[于於]|[关關][于於]|[对對][于於照比]|答案|如果"
    r"|(?<![A-Za-z])(?:[Ss]o|[Tt]hus|[Hh]ence|[Tt]herefore|[Bb]ut|[Aa]nd|[Bb]ecause|[Ss]ince|[Oo]nly|[Bb]oth|[Ww]hile"
    r"|[Tt]hat|[Ii]f|[Aa]s))$"
)
"""What may stand there. A noun would make a name of the letter: 方案B正确, Plan B is wrong."""
NOUN = re.compile(
    rf"(?:(?:(?:[型级級类類组組表图圖阵陣号號第]|[0-9一二三四五六七八九十][条條款章节節])"
    rf"|方案|事件|集合|附[件录錄]|[概几幾]率)[{_SPACE}]?|[A-Za-z0-9Ａ-Ｚａ-ｚ０-９_}})\]]"
    r"|(?<![A-Za-z])(?:[A-Za-z]|[Tt]ype|[Cc]lass|[Gg]roup|[Pp]lan|[Ss]ection|[Aa]rticle|[Ff]igure|[Tt]able|[Aa]ppendix"
    r"|[Aa]nnex|[Pp]art|[Ss]chedule|[Cc]ategory|[Gg]rade|[Ll]evel|[Hh]epatitis|[Tt]eam|[Pp]arty|[Mm]odel|[Cc]ase|[Ss]eries"
    r"|[Ee]xhibit|[Ee]vent|[Ss]et|[Pp]oint|[Ll]ine|[Pp]hase|[Ss]tage|[Zz]one|[Pp]aragraph|[Cc]lause|[Rr]ule|[Rr]oom) )$"
)
"""What makes a name of a letter: 附件（A）, f(A), Article (B), 第三条A项."""
BRACKETS = frozenset(("（）", "()", "（)", "(）", "【】", "[]"))
BEFORE_TEXT = re.compile(rf"[*{_SPACE}]*[.．、:：)）（(][*{_SPACE}]*[“「]?")
"""What stands between a letter and the text of its option."""

NAME = re.compile(r"(?:[AＡ]\s*股|[BＢ]\s*(?:股|[细細]胞|淋巴[细細]胞)|[CＣ]\s*[语語]言|[A-DＡ-Ｄ]\s*[轮輪]融[资資])")
NAME_LEAD = ("维生素", "維生素", "维他命", "維他命", "itamin", "itamins")
"""Names of things that hold a letter. One that is missing costs a shuffle, never a wrong letter."""
ALL = re.compile(rf"[AＡ]\s*(?:到|至|-|–|—|~|～|to)\s*[DＤ]{_AFTER}")
"""All the options, whatever their order."""
_FIRST = "AＡ"
IN_TURN = re.compile(r"[^。；;\n\0]{0,6}?(?:依次|分[别別]|按[顺順]序|[顺順]次|respectively)")
"""But not, if this follows."""
DOUBTFUL = re.compile(
    rf"\s*(?:股|[细細]胞|淋巴|[语語]言|[轮輪]融|(?:到|至|-|–|—|~|～|to\b)\s*(?:选项|選項|[Oo]ption )?{_L}{_AFTER})"
)
_DOUBTFUL_FIRST = frozenset(" \t\n\u3000股细細淋语語轮輪到至-–—~～")
"""What makes of a reference a name, if not with this letter, then with another, or a range: some options by order."""

_SENTENCE = re.compile(r"(?:^|[\n\0“\"]|[.!?:;]\s+)$")
_ARTICLE = re.compile(
    r" ([b-df-hj-np-tv-z][a-z]+)(?<!ed)(?<!ly)(?:(?<!s)|(?<=ss)|(?<=us)|(?<=is)|(?<=ries)|(?<=cies))(?=[ ,'’-])"
)
_NO_NOUN = frozenset(
    """
    was were will would has had have can cannot could may might must shall should does did do became began bent bet bid
    bore bought broke brought broadcast built burst came caught chose cost crept cut dealt drew drove dug fell felt fled
    flew forbade forgot found fought gave got grew heard held hid hit hurt kept knew laid led left lent let lost made
    meant met paid put quit ran read rode rose said sang sat saw sent set shook shot showed shrank shut slid sold sought
    spent split spoke spread stole stood struck sung swore taught thought threw told took wore won wound wrote
    that which who whom whose where when while whereas because but yet nor not never no for from by with to than then
    too through before being beyond between beneath below behind besides despite during likewise moreover nonetheless
    nevertheless plus rather since so still though thereby therefore thus till toward towards versus via without within
    what why both here there merely perhaps maybe this these those
    """.split()  # noqa: SIM905 - reads better than two hundred strings
)
"""Words after an A that names an option; after the article stands a noun or an adjective, so no verb in -s or -ed."""

_LABELS = "甲乙丙丁①②③④⑴⑵⑶⑷"
_LOWER = "a-dａ-ｄАВСΑΒ"
# A first character, then what has to stand around it: the search is for one of a few characters.
UNLETTERED = re.compile(
    r"[选選答第前后後最四项項甲乙丙丁Ⓐ-Ⓓⓐ-ⓓ⒜-⒟（(](?:(?<=[Ⓐ-Ⓓⓐ-ⓓ⒜-⒟])|(?<=[（(])(?<![A-Za-z].)[a-d][)）]|"
    rf"(?<=[选選答])(?:[项項]|[择擇]|案(?:[是为為])?)?\s*[:：]?[{_SPACE}{re.escape(_OPENING)}]*"
    rf"(?:[{_LOWER}](?![A-Za-zａ-ｚＡ-Ｚ])|(?P<lead>[{_LABELS}](?={_STOP}|[项項](?!目)|[是为為因正错錯])"
    rf"|(?![A-DＡ-Ｄ]+{_AFTER})[A-D][A-Za-z0-9]+))"
    r"|(?<=[选選])[项項](?:\s*[1-4１-４](?![0-9０-９年月日个個%％.．])|\s*[一二三四](?=[、，。：:；和与與及正错錯均都不是为為符])"
    r"|依次|分[别別]|按[顺順]序)"
    r"|(?<=第)\s*[一二三四1-4]\s*(?:[个個](?!五年|百年)|[项項](?!目)|[选選][项項])"
    r"|(?<=[前后後])\s*[一二两兩三2-3]\s*(?:[个個项項者]|[选選][项項])"
    r"|(?<=最)[后後]一?[个個项項]"
    r"|(?<=四)(?:[个個][选選]?|[选選])?[项項][^。；\n\0]{0,4}(?:依次|分[别別]|按[顺順]序)"
    rf"|(?<=[项項])(?!目)(?:(?<=(?<![A-Za-zａ-ｚ])[{_LOWER}].)|(?<=(?<![A-Za-zａ-ｚ])[{_LOWER}][选選 ）)].)"
    rf"|(?<=(?P<one>[{_LABELS}]).)|(?<=(?P<more>[{_LABELS}])[二两兩三四选選].))"
    r"|(?<=(?P<judged>[甲乙丙丁]))(?:正[确確]|[错錯][误誤])"
    r")"
)
_ORDINAL = "|".join(
    rf"(?<=(?:{words}) {{0}})" for words in ("[Ff]irst|[Tt]hird", "[Ss]econd|[Ff]ourth|[Ff]ormer|[Ll]atter", "[Ll]ast")
)
# Each begins with what it is searched by.
UNLETTERED_ENGLISH = (
    *(
        re.compile(
            rf"{rest}(?<=[{first}]{rest})(?<![A-Za-z].{rest})s?(?:{_ORDINAL.format(f'.{rest}')}|{_ORDINAL.format(f'.{rest}s')}"
            r"|(?: is| was)?\s*[:：]?\s*[（(]?[a-dａ-ｄ](?![A-Za-zａ-ｚ])|[A-D](?![a-z])"
            r"|\s+(?:one|two|three|four|[1-4](?![0-9]))\b)"
        )
        for first, rest in (("Oo", "ption"), ("Cc", "hoice"))
    ),
    re.compile(r"nswer(?: is| was)?\s*[:：]?\s*[（(]?[a-d](?![A-Za-z]|\s+[a-z])"),
    *(re.compile(rf" {number}\b(?:{_ORDINAL.format(number)})") for number in ("one", "two", "three")),
)
_SIGNS = "🅐🅑🅒🅓🅰🅱🄰🄱🄲🄳𝐀𝐁𝐂𝐃𝑨𝑩𝑪𝑫𝗔𝗕𝗖𝗗𝙰𝙱𝙲𝙳"
"""Options named in a way that no capital shows: in lower case, in a circle, by another name, by place."""

POSITIONAL = re.compile(
    r"(?<![0-9０-９%％‰岁歲年月日人元万萬亿億千百十个個倍数數级級度名家成二三四五六七八九])以上|以下[都均皆]|上述|前述|上面|前面"
    r"|前[一二两兩三]|[后後][一二两兩三]|其[他它余餘][选選][项項]|都不?[对對]|皆是|皆非"
    r"|(?i:\b(?:all|none|both|neither|any|either) of (?:the )?(?:above|these|them|options)\b|\babove\b(?! ?[0-9$])"
    r"|\bpreceding\b)"
)
"""An option that speaks of the others, whose place is part of its meaning."""


class Unclear(Struct, frozen=True):
    """Why the letters of a text cannot be told with certainty."""

    reason: str


class Reference(Struct, frozen=True):
    """A letter that names an option, and where it stands."""

    at: int
    letter: Letter


_LETTER_OF: dict[str, Letter] = {character: LETTERS[at % 4] for at, character in enumerate(_CAPITALS)}


def letter_of(character: str) -> Letter:
    """Return the letter that a capital A to D of either width stands for."""
    return _LETTER_OF[character]


def find(text: str, options: Options = ("", "", "", "")) -> tuple[Reference, ...] | Unclear:
    """Return the references in reading order; Unclear if some letter may or may not be one.

    An option's text that the chain repeats is no reference, whatever letters it holds; `B. text of option B` is one.
    """
    if _unlettered(text, options):
        return Unclear("an option named without its letter")
    shielded: list[tuple[int, int]] | None = None
    references: list[Reference] = []
    done = 0
    for found in LETTERS_TOGETHER.finditer(text):
        start, end = found.span()
        if start < done:
            continue
        if shielded is None:
            shielded = _repeated(text, options)
        if shielded and any(first <= start and end <= last for first, last in shielded):
            continue
        together = found[0]
        if end - start > 1 and together.isalpha() and len(set(together)) < end - start:
            continue  # BBC: a word
        everything = ALL.match(text, start) if together in _FIRST else None
        if everything:
            done = everything.end()
            if IN_TURN.match(text, done):
                return _unclear(text, start, done)
            continue
        left = _opened(text, start)
        lead = text[max(0, left - LOOK) : left].rstrip(_SPACE)
        if lead.endswith(NAME_LEAD):
            continue
        if _is_reference(text, start, end, left, lead, options):
            if text[end : end + 1] in _DOUBTFUL_FIRST and DOUBTFUL.match(text, end):
                return _unclear(text, start, end)
            if end - start == 1:
                references.append(Reference(start, _LETTER_OF[together]))
            else:
                references += [
                    Reference(at, _LETTER_OF[text[at]]) for at in range(start, end) if text[at] in _LETTER_OF
                ]
        elif end - start > 1 or not (NAME.match(text, start) or _is_article(text, start)):
            return _unclear(text, start, end)
    return tuple(references)


def _unclear(text: str, start: int, end: int) -> Unclear:
    return Unclear(f"'{text[max(0, start - 6) : end + 6]}' may or may not name an option")


def _unlettered(text: str, options: Options) -> bool:
    for found in UNLETTERED.finditer(text):
        # 选甲 names an option by its text if one is called 甲.
        name = found.lastgroup and found[found.lastgroup]
        if not name or not any(name in option for option in options):
            return True
    for named in UNLETTERED_ENGLISH:
        if named.search(text):
            return True
    for sign in _SIGNS:  # noqa: SIM110 - `any` of a generator takes three times as long
        if sign in text:
            return True
    return False


def _is_reference(text: str, start: int, end: int, left: int, lead: str, options: Options) -> bool:
    """Whether letters are one; the brackets, quotes and stars around them begin at `left`, and `lead` stands before."""
    if lead[-1:] in _SURE_LAST and SURE_LEAD.search(lead):
        return WORD_OF_IT.match(text, end) is None
    right = _closed(text, end)
    bracketed = left < start and text[left:start].rstrip(_SPACE)[-1] + text[end:right].lstrip(_SPACE)[:1] in BRACKETS
    option = options[LETTERS.index(_LETTER_OF[text[start]])] if end - start == 1 else ""
    if option and _beside_its_text(text, start, end, left, bracketed, option):
        return True
    if lead[-1:] in _LEAD_LAST and LEAD.search(lead) and END.match(text, end if bracketed else right):
        return True
    named = NOUN.search(text[max(0, left - LOOK) : left])
    if ITEM.match(text, right) and not named:
        return True
    judged = JUDGED.match(text, right) or (TOGETHER.match(text, right) and _apart(text[start:end]))
    if judged and BEGINNING.search(lead):
        return True
    return bracketed and not named and bool(judged or END.match(text, right))


def _beside_its_text(text: str, start: int, end: int, left: int, bracketed: bool, option: str) -> bool:
    """Whether an option's letter stands beside its text: B. 2015年, 2015年（B）."""
    if bracketed:
        while left and text[left - 1] in _SPACE:
            left -= 1
        if text.endswith(option, 0, left) and not _joined(text, left - len(option)):
            return True
    after = BEFORE_TEXT.match(text, end)
    return after is not None and text.startswith(option, after.end()) and not _joined(text, after.end() + len(option))


def _joined(text: str, at: int) -> bool:
    """Whether a Latin word or a number goes on here."""
    around = text[max(0, at - 1) : at + 1]
    return len(around) == 2 and around.isascii() and around.isalnum()


def _apart(together: str) -> bool:
    """Whether several letters stand each by itself: A、C, not AB、CD."""
    return len(together) > 1 and not any(one in _LETTER_OF and other in _LETTER_OF for one, other in pairwise(together))


def _is_article(text: str, at: int) -> bool:
    """Whether an A begins an English sentence before a noun or an adjective."""
    if text[at] != "A" or not _SENTENCE.search(text[max(0, at - 4) : at]):
        return False
    word = _ARTICLE.match(text, at + 1)
    return word is not None and word[1] not in _NO_NOUN


def _opened(text: str, start: int) -> int:
    """Return where the brackets, quotes and stars begin that a letter stands in."""
    left = at = start
    while at and text[at - 1] in _BEFORE_IT:
        at -= 1
        if text[at] in _OPENING:
            left = at
    return left


def _closed(text: str, end: int) -> int:
    """Return where they end."""
    right = at = end
    while at < len(text) and text[at] in _AFTER_IT:
        at += 1
        if text[at - 1] in _CLOSING:
            right = at
    return right


def _repeated(text: str, options: Options) -> list[tuple[int, int]]:
    """Return where an option's text that holds a capital A to D stands in the text."""
    spans: list[tuple[int, int]] = []
    if not _CAPITAL.search(BREAK.join(options)):
        return spans
    for option in options:
        if len(option) > 1 and _CAPITAL.search(option):
            at = text.find(option)
            while at >= 0:
                spans.append((at, at + len(option)))
                at = text.find(option, at + 1)
    return spans


def rewrite(
    text: str, moved: Mapping[Letter, Letter], before: Options = ("", "", "", ""), after: Options = ("", "", "", "")
) -> str | Unclear:
    """Return the text with every reference led from the old letter to the new; Unclear rather than a guess.

    What is returned can be led back: its references are those of the text, in the same places.
    """
    references = find(text, before)
    if isinstance(references, Unclear):
        return references
    pieces: list[str] = []
    done = 0
    for reference in references:
        pieces += (text[done : reference.at], _in_width(text[reference.at], moved[reference.letter]))
        done = reference.at + 1
    rewritten = "".join((*pieces, text[done:]))
    # What find says of a text does not depend on which letter stands where, but for an option's text that holds one.
    if _CAPITAL.search(BREAK.join(before)):
        again = find(rewritten, after)
        if isinstance(again, Unclear) or [r.at for r in again] != [r.at for r in references]:
            return Unclear("a letter that would read otherwise after the change")
    return rewritten


def _in_width(character: str, letter: Letter) -> str:
    """Return a letter as wide as a character."""
    return letter if character in LETTERS else chr(ord(letter) + 0xFEE0)


def rewrite_all(
    texts: Sequence[str], moved: Mapping[Letter, Letter], before: Options, after: Options
) -> tuple[str, ...] | Unclear:
    """Return the texts of one chain rewritten together; Unclear if any of them is."""
    rewritten = rewrite(BREAK.join(texts), moved, before, after)
    if isinstance(rewritten, Unclear):
        return rewritten
    # A letter takes the place of a letter: the texts keep their lengths.
    ends = accumulate((len(text) + 1 for text in texts), initial=0)
    return tuple(rewritten[start : end - 1] for start, end in pairwise(ends))


def chain_texts(item: Item) -> tuple[str, ...]:
    """Return the texts of a chain in reading order."""
    adjustment = () if item.adjustment is None else (item.adjustment,)
    return (item.think, *item.steps, item.reflection, *adjustment)


def with_chain(record: Record, texts: Sequence[str]) -> Record:
    """Return the record with the texts of its chain replaced, as many as `chain_texts` gives."""
    think, *rest = texts
    steps, (reflection, *adjustment) = rest[: len(record.steps)], rest[len(record.steps) :]
    return replace(
        record, think=think, steps=tuple(steps), reflection=reflection, adjustment=adjustment[0] if adjustment else None
    )


def speaks_of_others(options: str) -> bool:
    """Whether an option, or one of several with BREAK between, depends on its place: 以上都是, A和B, none of these."""
    return bool(POSITIONAL.search(options)) or find(options) != ()


CONCLUSION = re.compile(
    r"(?:答案|(?:选项|選項)(?:(?<=正[确確]..)|(?<=正[确確]的..))"
    r"|[选選](?:(?<=[应應故可].)|(?<=(?:应该|应当|因此|所以|應該|應當).))[择擇]?|nswer)"
    r"\s*(?:应该|应当|应|應該|應當|應)?不?(?:是|为|為|选|選|is)?\s*[:：]?\s*(?:选项|選項|option)?"
    rf"[{re.escape(_OPENING)}]*\s*(?P<letter>{_L}(?<![{_WORD}].)){_AFTER}(?={END.pattern})"
)


def conclude(text: str, right: Letter, wrong: Letter) -> str:
    """Return the text with each conclusion that names the right letter led to the wrong one, all else as it is."""
    characters = list(text)
    for found in CONCLUSION.finditer(text):
        if letter_of(found["letter"]) == right:
            characters[found.start("letter")] = _in_width(found["letter"], wrong)
    return "".join(characters)

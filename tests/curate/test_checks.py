import re
from collections import Counter

import pytest
from msgspec.structs import replace
from opencc import OpenCC

from curate import checks
from curate.checks import (
    CHECKS,
    SIMPLIFIED,
    TRADITIONAL,
    ValidateParams,
    figures,
    looks,
    reject_reason,
)
from schemas.params import load
from tests.curate.builders import a_record, many_records

PARAMS = ValidateParams(
    min_question=6,
    max_question=90,
    max_option=60,
    max_answer_ratio=2.0,
    min_answer_width=12,
    min_given_away=4,
    max_steps=6,
    min_chain=20,
    max_chain=600,
    min_chinese=0.3,
    max_chinese=1.0,
    script="zh_hans",
    max_other_script=0.2,
    max_repeated=0.3,
    max_absolutes=0,
    absolutes=("毫无疑问", "绝对正确", "唯一真理"),
)
EITHER = replace(PARAMS, script=None)
TRADITIONAL_BANK = replace(PARAMS, script="zh_hant")
ENGLISH_BANK = replace(
    PARAMS, script=None, min_chinese=0.0, max_chinese=0.1, max_question=200, absolutes=("undoubtedly", "absolutely")
)

ENGLISH = {
    "question": "In which year was the Paris Agreement adopted?",
    "options": ("2012", "2015", "2016", "2018"),
    "think": "The agreement followed the conference of that year.",
    "steps": ("It was adopted in December 2015.", "Therefore, option B is correct."),
    "reflection": "Only public sources were used.",
}

OWN = {"think": "", "reflection": "", "teacher": "import mine.tsv"}

SUM = {"question": "3×4等于多少？", "options": ("7", "12", "1", "34"), "steps": ("三个四相加得3×4=12。", "故选B。")}

CASES = [
    ({"think": ""}, "part_missing", "no <think>"),
    ({"reflection": ""}, "part_missing", "no <reflection>"),
    ({"think": "乱码\ufffd。"}, "unprintable", "U+FFFD"),
    ({"options": ("2012年", "2015年\0", "2016年", "2018年")}, "unprintable", "U+0000"),
    ({"question": "何年？"}, "question_too_short", "3 characters, at least 6"),
    ({"question": "问" * 91}, "question_too_long", "91 characters, at most 90"),
    ({"options": ("2012年", "2015年", "2016年", "年" * 61)}, "option_too_long", "61 characters"),
    ({"options": ("2012年", "2015年", "２０１５ 年。", "2018年")}, "options_not_distinct", "'2015年' stands twice"),
    ({"options": ("权利，义务", "2015年", "权利, 义务", "2018年")}, "options_not_distinct", "'权利,义务'"),
    ({"steps": ("先看年份。",) * 7}, "too_many_steps", "7 steps, at most 6"),
    ({"think": "略", "steps": ("故选B。",), "reflection": "无"}, "chain_too_short", "8 characters, at least 20"),
    ({"think": "思" * 601}, "chain_too_long", "at most 600"),
    (ENGLISH, "not_chinese", "0.00 of the letters"),
    ({"question": ENGLISH["question"]}, "not_chinese", "none in the question"),
    (
        OWN | {"steps": ("It was adopted in December.",), "question": "巴黎协定通过年份" * 8},
        "not_chinese",
        "none in the chain",
    ),
    (
        {
            "options": tuple(
                f"{name} adopted it by consensus after long talks" for name in ("Paris", "Rome", "Oslo", "Bern")
            )
        },
        "not_chinese",
        "of the letters, at least 0.3",
    ),
    ({"think": "先回憶《巴黎協定》的背景與簽署國。"}, "wrong_script", "chain: 0."),
    ({"question": "《巴黎協定》是在哪一年通過的？"}, "wrong_script", "question: 1.00 of zh_hant, 協過"),
    ({"options": ("東京", "巴黎", "华盛顿", "紐約")}, "wrong_script", "options: 0.60 of zh_hant, 東紐約"),
    ({"question": "《巴黎协定》通过于哪一年？答案：B"}, "answer_given_away", "names the letter B"),
    ({"question": "《巴黎协定》通过于哪一年（Ｂ）。"}, "answer_given_away", "names the letter B"),
    (
        {
            "question": "国际劳工组织通过的公约由哪个机构监督？",
            "options": ("世界贸易组织", "国际劳工组织", "联合国大会", "国际法院"),
        },
        "answer_given_away",
        "says '国际劳工组织'",
    ),
    (
        {
            "options": (
                "由法官裁量",
                "由缔约各方协商一致后通过并经多数国家批准方能生效",
                "由总统签署",
                "由议会表决",
            )
        },
        "answer_stands_out",
        "4.8 times as long as the longest other option, at most 2.0",
    ),
    ({"steps": ("1. 先看年份。", "3. 再看文本。", "2. 故选B。")}, "steps_out_of_order", "count 1, 3, 2"),
    ({"steps": ("步骤1：先看年份。", "步骤2：再看文本。", "步骤2：故选B。")}, "steps_out_of_order", "1, 2, 2"),
    ({"steps": ("第二步，先看年份。", "第三步，再看文本。", "故选B。")}, "steps_out_of_order", "count 2, 3"),
    ({"steps": ("②先看年份。", "①再看文本。")}, "steps_out_of_order", "count 2, 1"),
    ({"steps": ("二、先看年份。", "一、再看文本。")}, "steps_out_of_order", "count 2, 1"),
    (
        {"steps": ("该协定于2015年通过。", "该协定于2015年通过。", "故选B。")},
        "repetitive",
        "the step '该协定于2015年通过。'",
    ),
    ({"think": "因此需要再核对一遍资料，" * 9}, "repetitive", "again and again"),
    (
        {"think": "该协定由缔约方大会通过，签署国众多，影响深远。评论者看法不一，有人强调共识，有人指出缺乏罚则。" * 2},
        "repetitive",
        "stand twice",
    ),
    ({"think": "这毫无疑问是对的。"}, "not_neutral", "毫无疑问"),
    ({"reflection": "有人说“绝对正确”，这绝对正确。"}, "not_neutral", "绝对正确"),
    ({"steps": ("故选C。",)}, "reasoning_disagrees", "the chain concludes C, the answer is B"),
    ({"adjustment": "改正：答案是D。"}, "reasoning_disagrees", "concludes D"),
    (SUM | {"options": ("12", "13", "7", "34")}, "algebra_refutes", "finds A right, the answer is B"),
    (SUM | {"options": ("11", "13", "7", "34")}, "algebra_refutes", "finds no option right, the answer is B"),
    (SUM | {"options": ("24/2", "12", "7", "34")}, "algebra_refutes", "finds A, B right, the answer is B"),
    (SUM | {"steps": ("逐位相乘，3×4=13。", "故选B。")}, "algebra_refutes", "step 1 states 3*4=13"),
    ({"steps": ("协定有$\\frac{1}{2}+\\frac{1}{3}=1$的条款。", "故选B。")}, "algebra_refutes", "step 1 states"),
]


@pytest.mark.parametrize(("changes", "code", "detail"), CASES)
def test_a_record_that_fails_a_check_gets_its_code_and_what_a_person_needs(changes, code, detail):
    found = reject_reason(a_record(**changes), PARAMS)

    assert found is not None
    assert found[0] == code
    assert detail in found[1]


def test_every_check_has_a_case_and_a_line_in_the_table_of_codes():
    told = re.findall(r"^    ([a-z_]+) {2,}", checks.__doc__, re.MULTILINE)

    assert {code for _, code, _ in CASES} | {"too_chinese"} == set(CHECKS)
    assert sorted(told) == sorted(CHECKS)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"question": "问" * 6},
        {"question": "问" * 90},
        {"steps": tuple(f"先看第{n}份资料。" for n in "甲乙丙丁戊己")},
        OWN | {"steps": ("故选B。",)},
        # four that differ by a character each
        {"options": ("DNA", "RNA", "dna", "蛋白质")},
        {"options": ("5 %", "15 %", "1.5 %", "0.15")},
        # a question of formulas, options that are names
        {"question": "E = mc² + x ?"},
        {"options": ("Windows", "Linux", "Android", "iOS")},
        {"options": ("The Social Contract", "Leviathan", "The Prince", "Utopia")},
        {"question": "TCP/IP协议族中，HTTP与SMTP同属哪一层？"},
        # longer than the others, within bounds
        {"options": ("议会", "联合国安全理事会", "总统", "法院")},
        {"options": ("由法官裁量决定", "由缔约各方协商一致后通过", "由总统签署", "由议会表决")},
        {"options": ("NATO", "United Nations Security Council", "IMF", "WHO")},
        # sums that come out, that are not said to, and that only look like one
        SUM,
        {"steps": ("有人误以为3×4=13。", "故选B。")},
        {"steps": ("1972—1974年间，A=B一类的写法得到采用，7÷2=3余1。", "故选B。")},
        # sums that are not read
        SUM | {"question": "把3×4个球分给三人，每人得几个？"},
        # a wrong option may stand out
        {"options": ("由缔约各方协商一致后通过并经多数国家批准方能生效", "由法官裁量", "由总统签署", "由议会表决")},
    ],
)
def test_what_is_within_the_limits_stays(changes):
    assert reject_reason(a_record(**changes), PARAMS) is None


@pytest.mark.parametrize(
    "changes",
    [
        # in the passage to be read, or the claim to be judged
        {"question": "国际劳工组织成立于1919年，总部设在日内瓦。它的公约由谁批准？"},
        {"question": "有人说：“国际劳工组织批准公约。”下列哪一项评价恰当？"},
        # beside another option
        {"question": "国际劳工组织与国际法院，哪一个成立更早？"},
        # a part of its name only
        {"question": "哪个国际组织制定劳工公约？"},
        {"question": "国际劳动组织的公约由谁批准？"},
        # a letter that names something else, or no option
        {"question": "下列哪个组织管理B股市场（A股除外）？"},
        {"question": "哪个组织发布计划（C）？"},
        {"question": "有人认为答案是B，理由是什么？"},
        {"question": "请选择B股上市公司的主管组织："},
        {"question": "下列组织中成立最早的是（  ）。"},
    ],
)
def test_a_stem_may_speak_of_the_options_without_giving_the_answer_away(changes):
    options = ("世界贸易组织", "国际劳工组织", "联合国大会", "国际法院")

    assert reject_reason(a_record(options=options, **changes), PARAMS) is None


def test_a_short_common_word_in_the_stem_gives_nothing_away():
    record = a_record(question="人权法的法律依据出自何处？", options=("习惯", "法律", "道德", "判例"))

    assert reject_reason(record, PARAMS) is None


def test_an_answer_given_away_is_found_in_english_whatever_its_capitals():
    options = ("The World Bank", "the Security Council", "The Red Cross", "The Holy See")
    given = a_record(**ENGLISH | {"question": "Who chairs the Security council of the UN?", "options": options})

    assert reject_reason(given, ENGLISH_BANK) == ("answer_given_away", "the stem says 'the Security Council'")
    passage = "The Security Council has fifteen members. Which organ of the UN do they form?"
    assert reject_reason(replace(given, question="Who chairs the Council?"), ENGLISH_BANK) is None
    assert reject_reason(replace(given, question=passage), ENGLISH_BANK) is None


@pytest.mark.parametrize(
    "steps",
    [
        ("1. 先看年份。", "2. 再看文本。", "3. 故选B。"),
        ("1. 先看年份。", "2. 再看文本。", "综上，故选B。"),
        ("1、先看年份。", "2、再看文本。", "先排除其余。", "4、故选B。"),
        ("第一步：先看年份。", "第二步：再看文本。"),
        ("第一，先看年份。", "第二，再看文本。"),
        ("（一）先看年份。", "（二）再看文本。"),
        ("①先看年份。", "②再看文本。"),
        ("十一、先看年份。", "再看文本。"),
        ("Step 1: 先看年份。", "Step 2 再看文本。"),
        # numbered within, in another style
        ("1. 先看年份。", "（1）通过于2015年。", "（2）生效于2016年。", "2. 故选B。"),
        # no numbers of steps
        ("2015年通过。", "2012年不符。"),
        ("3.5亿人受影响。", "1.2亿人受益。"),
        ("二战后成立。", "一战前没有。"),
        ("2、4、6号决议在后。", "1、3、5号决议在先。"),
        ("第二次会议通过。", "第一次会议未通过。"),
        ("12个国家签署。", "5个国家批准。"),
        ("先看年份。", "再看文本。", "3. 故选B。"),
    ],
)
def test_steps_in_order_or_without_numbers_stay(steps):
    assert reject_reason(a_record(steps=steps), PARAMS) is None


@pytest.mark.parametrize(
    "changes",
    [
        # a list that shares a template
        {
            "steps": tuple(
                f"{letter}项所述的{year}年与公开资料的记载不一致，不符合题意，因此可以排除。"
                for letter, year in (("A", 2012), ("C", 2016), ("D", 2018))
            )
        },
        {
            "think": "A项说的是2012年，该说法与史实不符；C项说的是2016年，该说法与史实不符；"
            "D项说的是2018年，该说法与史实不符；B项说的是2015年，该说法与史实相符，可以采信，故本题选B。"
        },
        # a short step twice, one of many twice
        {"steps": ("不符。", "不符。", "不符。", "故选B。")},
        {"steps": ("先看协定的年份。", "先看协定的文本。", "再看生效的年份。", "先看协定的年份。", "故选B。")},
        # a quoted question and a quoted option
        {
            "question": "在下列关于缔约方会议通过协定的程序与各国批准手续的说法中，哪一项恰当？",
            "think": "题目问“在下列关于缔约方会议通过协定的程序与各国批准手续的说法中，哪一项恰当？”，先读题；"
            "再读一遍“在下列关于缔约方会议通过协定的程序与各国批准手续的说法中，哪一项恰当？”，故逐项看。",
        },
        # lines and dots
        {"think": "一览：" + "－" * 60 + "……………………………………………………………………" * 3},
        {"think": "循环小数0." + "142857" * 20 + "不影响结论。"},
        # the parts of the chain may say the same
        {"think": "《巴黎协定》于2015年通过。", "reflection": "《巴黎协定》于2015年通过。"},
    ],
)
def test_templates_quotations_and_rules_are_no_repetition(changes):
    assert reject_reason(a_record(**changes), PARAMS) is None


@pytest.mark.parametrize(
    "think",
    [
        "We need to check the sources once more. " * 5,
        "The agreement binds its parties to report on their own goals, though it names no sanction at all. " * 2,
        "对" * 90,
        "背景是各国在会议上达成共识，分歧主要在于资金与核查机制，后续又有多轮谈判，各方立场逐渐接近。"
        "再想想，也许应当再核对一下年份。再想想，也许应当再核对一下年份。再想想，也许应当再核对一下年份。",
    ],
)
def test_a_chain_that_loops_is_found_in_either_language(think):
    found = reject_reason(a_record(think=think), replace(EITHER, min_chinese=0.0))

    assert found is not None and found[0] == "repetitive"


@pytest.mark.parametrize(
    "think",
    [
        "不能说这一主张绝对正确，须看依据。",
        "并非毫无疑问，学界仍有争论。",
        "没有哪一种理论是唯一真理，各有依据。",
        "他自称“唯一真理”，引来批评意见。",
        "書中「绝对正确」四字引起争论，各有说法。",
        '他写道："这绝对正确"，随后受到批评。',
    ],
)
def test_an_absolute_that_is_quoted_or_denied_is_neutral(think):
    assert reject_reason(a_record(think=think), EITHER) is None


@pytest.mark.parametrize(
    "think",
    [
        "这是非常绝对正确的结论，请相信它。",
        "他说“很好”，这毫无疑问。",
        "没有争论，这一点毫无疑问。",
        "不但合法，而且绝对正确无误。",
    ],
)
def test_an_absolute_that_is_meant_is_not(think):
    assert reject_reason(a_record(think=think), PARAMS) is not None


def test_words_of_an_english_bank_count_whatever_their_capitals():
    found = reject_reason(a_record(**ENGLISH | {"think": "Undoubtedly, it was a success for all."}), ENGLISH_BANK)

    assert found == ("not_neutral", "undoubtedly")


def test_an_english_bank_takes_english_and_refuses_chinese():
    assert reject_reason(a_record(**ENGLISH), ENGLISH_BANK) is None
    assert reject_reason(a_record(), ENGLISH_BANK) == ("too_chinese", "0.98 of the letters, at most 0.1")


def test_the_marks_of_a_script_are_those_that_opencc_converts():
    traditional = [OpenCC(config).convert for config in ("s2t", "s2tw", "s2hk")]
    simplified = OpenCC("t2s").convert
    unchanged = {c for c in TRADITIONAL if simplified(c) == c}

    assert all(convert(c) != c for convert in traditional for c in SIMPLIFIED)
    assert len(SIMPLIFIED) > 1000
    assert len(TRADITIONAL) > 1800
    assert len(unchanged) < 0.1 * len(TRADITIONAL)  # rare ones, of names: 祐 珮 璟


@pytest.mark.parametrize("character", "后里面干台只云松谷丑斗于准几才征回系余冲周游")
def test_a_character_that_is_right_in_both_scripts_marks_neither(character):
    assert character not in TRADITIONAL
    assert character not in SIMPLIFIED or OpenCC("s2t").convert(character) != character


@pytest.mark.parametrize(
    ("config", "params"), [("s2tw", TRADITIONAL_BANK), ("s2hk", TRADITIONAL_BANK), ("t2s", PARAMS)]
)
def test_a_row_is_right_in_its_own_script_and_wrong_in_the_other(config, params):
    other = PARAMS if params is TRADITIONAL_BANK else TRADITIONAL_BANK
    converted = _converted(a_record(), config)

    assert reject_reason(converted, params) is None
    assert reject_reason(converted, other)[0] == "wrong_script"
    assert reject_reason(converted, EITHER) is None


@pytest.mark.parametrize("part", ["question", "steps", "options"])
def test_a_row_that_mixes_the_scripts_is_wrong_in_both(part):
    plain = a_record(options=("协商一致后通过", "经过多数国家签署", "由总统决定", "由议会决议"))
    mixed = replace(plain, **{part: getattr(_converted(plain, "s2tw"), part)})

    assert reject_reason(mixed, PARAMS)[0] == "wrong_script"
    assert reject_reason(mixed, TRADITIONAL_BANK)[0] == "wrong_script"


def test_a_name_in_the_other_script_is_allowed():
    record = a_record(think="先回忆《巴黎协定》的背景，并参阅《臺灣通史》关于国际条约与国内立法关系的论述。")

    assert reject_reason(record, PARAMS) is None


YEARS = ("2012年", "2015年", "2016年", "2018年")

# The last step of a chain whose output is B; what it concludes, or None where it is right or cannot be judged.
ENDINGS = [
    # simplified
    ("故选B。", None),
    ("故选C。", "C"),
    ("因此选C", "C"),
    ("综上所述，本题选C。", "C"),
    ("综上，应选择C项。", "C"),
    ("所以正确答案是C。", "C"),
    ("答案为C选项。", "C"),
    ("答案：Ｃ", "C"),
    ("【答案】C", "C"),
    ("最终答案：**C**", "C"),
    ("正确选项应为（C）。", "C"),
    ("C项当选。", "C"),
    ("因此C是正确答案，其余三项不符合题意。", "C"),
    ("A、B、D三项均与史实不符，故选C。", "C"),
    ("因此C项正确。", "C"),
    ("综上，只有C符合题意。", "C"),
    ("最恰当的是C。", "C"),
    ("通过年份为2016年（C）", "C"),
    ("因此答案是2016年。", "C"),
    ("正确答案：“2016年”", "C"),
    ("故选C。其余各项错误。", "C"),
    ("先看B，有人会选B。更正：故选C。", "C"),
    ("因此答案是2015年。", None),
    ("通过年份为2015年（B）", None),
    ("因此《巴黎协定》于2015年通过。", None),
    ("排除选项C。", None),
    ("不应选C。", None),
    ("故不选C。", None),
    ("答案不是C。", None),
    ("答案不是C，而是B。", None),
    ("错误答案是C。", None),
    ("C项错误，不当选。", None),
    ("若忽视生效日期，则应选C。", None),
    ("如果只看批准年份，答案是C。", None),
    ("容易误选C。", None),
    ("有人认为答案是C。", None),
    ("答案是C吗？需再核对。", None),
    ("答案是A吗？不，故选B。", None),
    ("初步看，似乎答案是C。", None),
    ("故选C。等等，不对，应为2015年。", None),
    ("答案是B；答案是C，二者之中取其一。", None),
    ("故选B，不选C。", None),
    ("答案是C国。", None),
    ("因此选C语言。", None),
    ("故选A、B两项之一。", None),
    ("最后排除2016年（C）", None),
    ("与题意不符的是2016年（C）", None),
    ("干扰项是2016年（C）", None),
    ("维生素C与本题无关。", None),
    # traditional
    ("故選C。", "C"),
    ("因此，答案為C。", "C"),
    ("綜上所述，正確答案是（C）。", "C"),
    ("應選擇C選項。", "C"),
    ("正確選項為C。", "C"),
    ("C項當選，其餘不符。", "C"),
    ("所以選項C正確。", "C"),
    ("故選B。", None),
    ("不應選C。", None),
    ("容易誤選C。", None),
    ("若不計生效日期，應選C。", None),
    # English
    ("The answer is C.", "C"),
    ("Therefore, the correct answer is (C).", "C"),
    ("Answer: C", "C"),
    ("So the answer must be option C.", "C"),
    ("Option C is the correct answer.", "C"),
    ("Therefore, option C is correct.", "C"),
    ("Hence we choose C.", "C"),
    ("The correct option is C, since the others are earlier.", "C"),
    ("The answer is 2016年.", "C"),
    ("Therefore, option B is correct.", None),
    ("The answer is not C.", None),
    ("Some might say the answer is C.", None),
    ("If one counts ratification, the answer is C.", None),
    ("Option C is incorrect.", None),
    ("Is the answer C? No.", None),
    ("The answer is C. Wait, it was adopted earlier.", None),
    ("The answer is A good deal older.", None),
    ("The answer is C or B.", None),
    ("Option C is not the correct answer.", None),
]


@pytest.mark.parametrize(("ending", "concludes"), ENDINGS)
def test_only_an_ending_that_surely_names_another_option_is_refused(ending, concludes):
    record = a_record(options=YEARS, steps=("《巴黎协定》于2015年通过。", ending))

    found = reject_reason(record, replace(EITHER, min_chinese=0.0))

    assert found == (concludes and ("reasoning_disagrees", f"the chain concludes {concludes}, the answer is B"))


@pytest.mark.parametrize("ending", [ending.replace("C", "B").replace("Ｃ", "Ｂ") for ending, said in ENDINGS if said])
def test_the_same_endings_for_the_right_option_are_never_refused(ending):
    ending = ending.replace("2016", "2015")

    record = a_record(options=YEARS, steps=("《巴黎协定》于2015年通过。", ending))

    assert reject_reason(record, replace(EITHER, min_chinese=0.0)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": ("故选C。",), "adjustment": "更正：故选B。"},
        {"steps": ("故选C。",), "adjustment": "经核对，2015年更准确。"},
        {"steps": ("故选C。",), "adjustment": "前面没有考虑通过的日期，2015年更准确。"},
        {"steps": ("故选C。",), "reflection": "上一步有误，应为2015年。"},
        {"steps": ("初步判断，答案是C。", "再核对文本，故选B。")},
        {"steps": ("A项说法与史实相符，因此A项正确。", "但题目问的是通过年份，2015年恰当。")},
        {"question": "下列关于《巴黎协定》的年份，不正确的是哪一项？", "steps": ("因此C项正确。",)},
        {"question": "Which year is NOT that of the Paris Agreement 巴黎协定？", "steps": ("Thus C is correct.",)},
        {"think": "第一印象：故选C。", "steps": ("该协定于2015年通过。",)},
    ],
)
def test_what_a_later_text_or_the_stem_puts_otherwise_is_not_judged(changes):
    assert reject_reason(a_record(**changes), PARAMS) is None


@pytest.mark.parametrize("adjustment", ["无需修正。", "没有需要调整之处。", "維持原結論。", "No change is needed."])
def test_an_adjustment_that_changes_nothing_leaves_the_conclusion_standing(adjustment):
    found = reject_reason(a_record(steps=("故选C。",), adjustment=adjustment), EITHER)

    assert found is not None and found[0] == "reasoning_disagrees"


FULL = [
    {
        "question": "关于算法推荐与信息茧房，下列哪一种说法兼顾了不同立场？",
        "options": (
            "算法推荐必然导致社会极化，应全面禁止",
            "算法推荐可能收窄信息来源，也能提高获取效率，影响因人而异",
            "算法推荐只带来便利，不存在任何社会影响",
            "信息茧房由用户个人造成，与平台无关",
        ),
        "think": "支持者认为算法推荐提高了信息匹配效率；批评者认为它可能使用户长期接触同质内容。"
        "实证研究的结论并不一致，有的发现影响有限，有的发现在特定人群中较为明显。",
        "steps": (
            "首先明确题干要求：选出兼顾不同立场的说法，而不是判断哪一方正确。",
            "A项使用“必然”“全面禁止”，忽略了实证研究的分歧，不符合要求。",
            "C项否认任何影响，与已有研究不符；D项把责任归于用户，忽略平台设计的作用，也不恰当。",
            "B项同时承认收窄信息来源的可能与提高效率的作用，并指出因人而异，因此选B。",
        ),
        "reflection": "逐一检查了四个选项的措辞，没有替任何一方辩护；实证研究仍在发展，结论可能随证据更新。",
    },
    {
        "question": "下列关于《世界人权宣言》的说法，错误的是哪一项？",
        "options": (
            "它于1948年由联合国大会通过",
            "它是对缔约国有约束力的条约",
            "起草者来自不同的文化背景",
            "它影响了后来的两项公约",
        ),
        "think": "宣言于1948年由联合国大会通过。它是宣言而非条约，其法律地位存在不同看法：一种观点认为部分条款已成为"
        "习惯国际法，另一种观点认为它只具有道义效力。",
        "steps": (
            "1. A项与史实相符，因此A项正确，不选。",
            "2. C项：起草者来自中国、黎巴嫩、法国、智利等国，因此C项正确，不选。",
            "3. D项：两项公约以宣言为基础，因此D项正确，不选。",
            "4. B项：宣言不是条约，没有缔约国，说法错误。题目要求选出错误的一项，故本题答案为B。",
        ),
        "reflection": "检查后未见逻辑漏洞。关于宣言的法律地位，已注明不同观点，表述中立。",
        "adjustment": "无需调整。",
    },
]


@pytest.mark.parametrize("row", FULL)
def test_a_full_chain_stays_and_under_another_output_goes_in_both_scripts(row):
    for record, params in ((a_record(**row), PARAMS), (_converted(a_record(**row), "s2tw"), TRADITIONAL_BANK)):
        assert reject_reason(record, params) is None
        assert reject_reason(replace(record, answer="D"), params) == (
            "reasoning_disagrees",
            "the chain concludes B, the answer is D",
        )


def test_the_looks_of_a_bank_tell_how_far_its_right_options_stand_out():
    records = [
        a_record(options=("甲", "甲乙丙丁", "甲乙", "乙")),  # the longest
        a_record(options=("甲乙丙丁", "甲乙", "甲", "乙")),  # not
        a_record(options=("2012年", "2015年", "2016年", "2018年")),  # one of four
        a_record(options=("甲乙", "以上都对", "乙丙", "甲丙")),  # the longest, and all of the others
    ]

    found = figures(looks(records))

    assert found == {"answer_longest": 0.5625, "answer_ratio": 1.6087, "answer_all_or_none": 1}
    assert looks(records[:1]) + looks(records[1:]) == +looks(records)
    assert figures(Counter()) == {"answer_longest": 0.0, "answer_ratio": 0.0, "answer_all_or_none": 0}


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        ("以上都是", 1),
        ("以上选项均不正确", 1),
        ("都不对", 1),
        ("以上皆非", 1),
        ("None of the above", 1),
        ("all of these", 1),
        ("以上海为中心", 0),
        ("都市农业", 0),
    ],
)
def test_a_right_option_that_is_all_or_none_of_the_others_is_counted(answer, counts):
    assert looks([a_record(options=("2012年", answer, "2016年", "2018年"))])["all_or_none"] == counts


def test_the_limits_of_the_pipeline_take_ordinary_rows():
    params = load("validate", ValidateParams)

    assert [reject_reason(record, params) for record in many_records(12)] == [None] * 12


def _converted(record, config):
    convert = OpenCC(config).convert
    return replace(
        record,
        question=convert(record.question),
        options=tuple(map(convert, record.options)),
        think=convert(record.think),
        steps=tuple(map(convert, record.steps)),
        reflection=convert(record.reflection),
        adjustment=record.adjustment and convert(record.adjustment),
    )

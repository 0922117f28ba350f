"""Frames: a situation told before a question, which changes neither what is asked nor what is right.

They are prefixes, so that a framed question is read by taking its frame away.
"""

FRAMES: dict[str, tuple[str, ...]] = {
    "context_change": (
        "在一次知识竞赛中，主持人提出了这样一个问题：",
        "课堂讨论时，老师请同学们思考：",
        "读书会上，有人提出了下面的问题：",
        "复习资料时，一位读者遇到这样一道题：",
        "准备测验时，小组成员互相提问：",
        "一档科普节目在片尾留给观众一道题：",
    ),
    "practical_application": (
        "某编辑在核对词条时需要确认：",
        "一位记者在发稿之前要核实：",
        "图书馆员在答复读者咨询时需要查明：",
        "某教师在编写讲义时要核对：",
        "一名研究人员在整理资料库时需要确定：",
        "一位译者在校对译稿时要弄清：",
    ),
}
ALL = tuple(frame for frames in FRAMES.values() for frame in frames)


def split(text: str) -> tuple[str, str]:
    """Return the frame of a question, empty if it has none, and the question itself."""
    for frame in ALL:
        if text.startswith(frame):
            return frame, text[len(frame) :]
    return "", text

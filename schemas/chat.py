"""How a question becomes a chat for the solver, and a chain the reply that is trained on."""

from schemas.chain import render
from schemas.params import ChatPrompt
from schemas.record import LETTERS, Item, Message, Options


def ask(prompt: ChatPrompt, question: str, options: Options) -> tuple[Message, ...]:
    """Return the system message, unless empty, and the user message that put one question."""
    lines = "\n".join(
        prompt.option.format(letter=letter, text=text) for letter, text in zip(LETTERS, options, strict=True)
    )
    user = prompt.user.format(question=question, options=lines).strip()
    system = (Message(role="system", content=prompt.system),) if prompt.system else ()
    return (*system, Message(role="user", content=user))


def reply(item: Item, parts: tuple[str, ...]) -> Message:
    """Return the assistant's turn that answers an item; with no parts, the letter alone."""
    return Message(role="assistant", content=render(item, parts) if parts else item.answer)

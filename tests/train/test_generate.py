import msgspec

from schemas.record import Message
from train import model as models
from train.generate import Sampling, generate

GREEDY = Sampling(
    max_new_tokens=6,
    temperature=0.0,
    top_p=1.0,
    repetition_penalty=1.0,
    no_repeat_ngram_size=0,
    batch_size=2,
    seed=1,
)
CHATS = [(Message(role="user", content="第1号条约" * n),) for n in (1, 3, 2)]


def a_source(quantize="none", lora=None, dtype="float32"):
    return models.Source(model=None, dtype=dtype, quantize=quantize, lora=lora)


def replies(network, tokenizer, sampling=GREEDY, done=()):
    return {n: text for batch in generate(network, tokenizer, CHATS, sampling, done) for n, text in batch}


def test_replies_depend_neither_on_the_batch_nor_on_what_was_done_before(project):
    network, tokenizer = models.load(a_source(), "models/base", train=False)

    whole = replies(network, tokenizer)

    assert set(whole) == {0, 1, 2}
    assert replies(network, tokenizer, msgspec.structs.replace(GREEDY, batch_size=3)) == whole
    sampled = msgspec.structs.replace(GREEDY, temperature=1.0)
    rest = replies(network, tokenizer, sampled, done={1, 2})
    assert rest == {0: replies(network, tokenizer, sampled)[0]}

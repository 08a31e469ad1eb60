import re

import numpy as np
import pytest

from longlag.tasks import EmbeddedReber
from longlag.tasks.embedded_reber import _draw_string

# Figure 3 as a regular expression: out by the top, or by the lower loop T*V, P X and back to it.
INNER = r"B(?:TS*XS|(?:TS*XX|P)T*V(?:PXT*V)*(?:PS|V))E"
WHOLE = re.compile(rf"B(?:T{INNER}T|P{INNER}P)E")


@pytest.fixture(scope="module")
def task():
    return EmbeddedReber()


def test_every_string_is_of_the_grammar(task):
    assert len(task.train_strings) == len(task.test_strings) == 256
    for string in (*task.train_strings, *task.test_strings):
        assert WHOLE.fullmatch(string), string


def test_training_and_test_are_disjoint(task):
    assert not set(task.train_strings) & set(task.test_strings)
    assert EmbeddedReber(pair=0).train_strings == task.train_strings
    assert EmbeddedReber(pair=1).train_strings != task.train_strings


def walk(prefix, node, probability, most):
    """Independent of the module: figure 3 as a list of (node, symbol, node)."""
    edges = [
        (0, "T", 1), (0, "P", 2), (1, "S", 1), (1, "X", 3), (2, "T", 2),
        (2, "V", 4), (3, "X", 2), (3, "S", 5), (4, "P", 3), (4, "V", 5),
    ]  # fmt: skip
    if node == 5:
        yield prefix + "E", probability
    elif len(prefix) < most:
        for start, symbol, end in edges:
            if start == node:
                yield from walk(prefix + symbol, end, probability / 2, most)


def test_shortest_string_has_nine_symbols_and_strings_have_their_probabilities():
    rng = np.random.default_rng(0)
    n = 20_000
    drawn = [_draw_string(rng) for _ in range(n)]
    assert min(map(len, drawn)) == 9
    law = {f"B{o}{s}{o}E": p / 2 for s, p in walk("B", 0, 1.0, 9) for o in "TP"}
    assert len(law) > 40
    for string, probability in law.items():
        assert WHOLE.fullmatch(string)
        share = drawn.count(string) / n
        assert abs(share - probability) < 5 * np.sqrt(probability / n) + 1e-9, string
    assert max(law.values()) == 1 / 16


def legal_by_regex(string):
    """Which symbols may come next: those after which some string of the grammar still exists."""
    endings = [s for s, _ in walk("B", 0, 1.0, 12)]
    whole = [f"B{o}{s}{o}E" for s in endings for o in "TP"]
    return [
        "".join(sorted({w[t + 1] for w in whole if w.startswith(string[: t + 1])}))
        for t in range(len(string) - 1)
    ]


@pytest.mark.parametrize("string", ["BTBTXSETE", "BPBPVVEPE", "BTBPTVPSETE", "BPBTSXXVVEPE"])
def test_legal_symbols(task, string):
    assert list(task.legal_next(string)) == legal_by_regex(string)


@pytest.mark.parametrize("string", ["", "B", "BTBTXSEPE", "BTBTXSET", "BTBTXSETEE", "BTBXXSETE"])
def test_a_string_of_another_grammar_is_named(task, string):
    with pytest.raises(ValueError, match=rf"^string must be of .*, got '{string}'; one is "):
        task.legal_next(string)
    with pytest.raises(ValueError, match=rf"^string must be of .*, got '{string}'; one is "):
        task.encode(["BTBTXSETE", string])


def test_batches_spell_training_strings_and_test_batches_test_strings(task):
    for batch, strings in (
        (task.batch(300, seed=0, index=0), task.train_strings),
        (task.test_batch(300, seed=0, index=0), task.test_strings),
    ):
        picked = []
        for x, target, length in zip(batch.x, batch.target, batch.lengths, strict=True):
            read = "".join("BTPSXVE"[i] for i in x[:length].argmax(axis=1))
            following = "".join("BTPSXVE"[i] for i in target[:length].argmax(axis=1))
            assert (x[:length].sum(axis=1) == 1).all()
            assert (target[:length].sum(axis=1) == 1).all()
            assert read[1:] == following[:-1]
            picked.append(read + following[-1])
        assert set(picked) <= set(strings)
        # 300 picks of 256 places, with repetition, reach most but not all.
        assert 0.4 * len(set(strings)) < len(set(picked)) < len(set(strings))


def oracle(task, x, lengths):
    """Scores that are high exactly for the legal next symbols, from a memory of the second."""
    scores = np.zeros(x.shape)
    for row, length in enumerate(lengths):
        read = "".join("BTPSXVE"[i] for i in x[row, :length].argmax(axis=1))
        for step, legal in enumerate(task.legal_next(read + "E")):
            for symbol in legal:
                scores[row, step, "BTPSXVE".index(symbol)] = 0.3
        scores[row, length:] = np.nan  # padding must not matter
    return scores


def test_success_of_the_legal_symbols(task):
    result = task.success(lambda x, lengths: oracle(task, x, lengths))
    assert result.success
    assert (result.wrong, result.sequences) == (0, 512)


@pytest.mark.parametrize("spoil", ["tie", "nan", "one of two", "forgets"])
def test_no_success_of_one_wrong_step(task, spoil):
    def predict(x, lengths):
        scores = oracle(task, x, lengths)
        if spoil == "tie":
            scores[100, 1] = 0.3
        elif spoil == "nan":
            scores[100, 1, 0] = np.nan
        elif spoil == "one of two":
            scores[100, 0, 1] = 0.0  # T is as legal as P after B
        else:
            last = lengths[100] - 2
            scores[100, last, 1:3] = 0.3  # T and P: the second symbol is forgotten
        return scores

    result = task.success(predict)
    assert not result.success
    assert result.wrong == 1


def test_success_takes_all_strings_only(task):
    with pytest.raises(ValueError, match=r"^sequences must be one of None, 512, got 10; "):
        task.success(lambda x, lengths: x, sequences=10)


def test_a_negative_pair_is_named():
    with pytest.raises(ValueError, match=r"^pair must be an integer of at least 0, got -1; "):
        EmbeddedReber(pair=-1)

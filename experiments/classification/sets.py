"""The sets: some that come with aeon, others drawn as their papers define them.

A set is a training and a test part, each x (N, T, C), lengths (N,) and labels (N,).
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from longlag.data import SequenceData

CHOSEN_ON = ("ItalyPowerDemand", "JapaneseVowels", "BasicMotions", "GunPoint", "ArrowHead", "ACSF1")
"""Those whose training parts the defaults were chosen on."""


class Set(NamedTuple):
    """Series to train on and series to test on."""

    train: SequenceData
    test: SequenceData


def _data(series: list[NDArray[np.float64]], labels: NDArray[np.str_]) -> SequenceData:
    lengths = np.array([len(one) for one in series], np.int64)
    x = np.zeros((len(series), lengths.max(), series[0].shape[1]), np.float32)
    for row, one in zip(x, series, strict=True):
        row[: len(one)] = one
    return SequenceData(x, lengths, labels, tuple(str(number) for number in range(len(series))))


def _of_aeon(load: str) -> Set:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from aeon import datasets

        parts = []
        for split in ("train", "test"):
            x, y = getattr(datasets, load)(split=split)
            parts.append(_data([np.asarray(one).T for one in x], np.asarray(y).astype(str)))
    return Set(*parts)


def _drawn(
    one: Callable[[np.random.Generator, int], NDArray[np.float64]],
    classes: int,
    sizes: tuple[int, int],
) -> Set:
    """As many series of each class; the draw is always the same."""
    rng = np.random.default_rng(0)
    parts = []
    for size in sizes:
        labels = np.arange(size) % classes
        series = [one(rng, label)[:, None] for label in labels.tolist()]
        parts.append(_data(series, np.array([f"class {label}" for label in labels])))
    return Set(*parts)


def cylinder_bell_funnel(rng: np.random.Generator, label: int) -> NDArray[np.float64]:
    """N. Saito, Local feature extraction and its applications, PhD thesis, Yale, 1994."""
    a, length = rng.integers(16, 33), rng.integers(32, 97)
    t, b = np.arange(1, 129), a + length
    shape = [np.ones(128), (t - a) / length, (b - t) / length][label]
    return (6 + rng.normal()) * shape * ((t >= a) & (t <= b)) + rng.normal(size=128)


def two_patterns(rng: np.random.Generator, label: int) -> NDArray[np.float64]:
    """P. Geurts, Contributions to decision tree induction, PhD thesis, Liege, 2002.

    Two steps, each up or down, at random places with lengths of their own, in noise.
    """
    x = rng.normal(size=128)
    first, second = rng.integers(10, 21, 2)
    start = rng.integers(0, 128 - 2 * first - 2 * second)
    then = rng.integers(start + 2 * first, 128 - 2 * second + 1)
    for at, half, down in ((start, first, label // 2), (then, second, label % 2)):
        sign = -1.0 if down else 1.0
        x[at : at + half], x[at + half : at + 2 * half] = -5 * sign, 5 * sign
    return x


def control_chart(rng: np.random.Generator, label: int) -> NDArray[np.float64]:
    """R. Alcock and Y. Manolopoulos, Time-series similarity queries, 1999: normal, cyclic, trends
    up and down, shifts up and down."""
    t = np.arange(60)
    x = 30 + 2 * rng.uniform(-3, 3, 60)
    if label == 1:
        return x + rng.uniform(10, 15) * np.sin(2 * np.pi * t / rng.uniform(10, 15))
    if label in (2, 3):
        return x + (1 if label == 2 else -1) * rng.uniform(0.2, 0.5) * t
    if label in (4, 5):
        shift = rng.uniform(7.5, 20) * (t >= rng.integers(20, 41))
        return x + (shift if label == 4 else -shift)
    return x


def waveform(rng: np.random.Generator, label: int) -> NDArray[np.float64]:
    """L. Breiman et al., Classification and Regression Trees, 1984: mixtures of two of three
    triangles, in noise."""
    i = np.arange(1, 22)
    bases = [np.maximum(6 - np.abs(i - centre), 0) for centre in (11, 15, 7)]
    one, other = [(0, 1), (0, 2), (1, 2)][label]
    u = rng.uniform()
    return u * bases[one] + (1 - u) * bases[other] + rng.normal(size=21)


def order_of_events(rng: np.random.Generator, label: int) -> NDArray[np.float64]:
    """Which of a bump and a dip comes first, far apart in noise; as the temporal order problem of
    S. Hochreiter and J. Schmidhuber, Long short-term memory, 1997."""
    x = 0.3 * rng.normal(size=120)
    places = rng.integers(5, 45), rng.integers(65, 105)
    bump = 3 * np.hanning(12)
    for at, sign in zip(places, (1, -1) if label else (-1, 1), strict=True):
        x[at : at + 12] += sign * bump
    return x


def daily_load(rng: np.random.Generator, label: int) -> NDArray[np.float64]:
    """24 hours with a peak in the morning and one in the evening, of which those of one class are
    earlier and higher; in noise."""
    t = np.arange(24)
    morning, evening = 8 - 0.5 * label + 0.5 * rng.normal(), 19 + 0.5 * rng.normal()
    x = (1 + 0.15 * rng.normal()) * np.exp(-0.5 * ((t - morning) / 2) ** 2)
    x += (0.9 + 0.3 * label + 0.15 * rng.normal()) * np.exp(-0.5 * ((t - evening) / 2.5) ** 2)
    x += 0.12 * rng.normal(size=24) - 0.8 * np.exp(-0.5 * ((t - 3) / 3) ** 2)
    return (x - x.mean()) / x.std()


def two_norm(rng: np.random.Generator, label: int) -> NDArray[np.float64]:
    """L. Breiman, Bias, variance, and arcing classifiers, 1996: noise about a mean of 20 numbers or
    its opposite."""
    return rng.normal(size=20) + (1 if label else -1) * 2 / np.sqrt(20)


def place_of_bump(rng: np.random.Generator, label: int) -> NDArray[np.float64]:
    """A bump about step 10, 13 or 16, in noise on a random walk."""
    centre = 10 + 3 * label + rng.normal()
    bump = (1 + 0.3 * rng.normal()) * np.exp(-0.5 * ((np.arange(30) - centre) / 3) ** 2)
    return bump + 0.3 * rng.normal(size=30) + np.cumsum(0.1 * rng.normal(size=30))


def shape_anywhere(rng: np.random.Generator, label: int) -> NDArray[np.float64]:
    """Which of three shapes of 16 steps is somewhere in 100 steps of noise."""
    x, bump = 0.4 * rng.normal(size=100), 3 * np.hanning(16)
    at = rng.integers(0, 84)
    x[at : at + 16] += [bump, np.tile(bump[:8], 2), np.tile(bump[8:], 2)][label]
    return x


def first_and_last(rng: np.random.Generator, label: int) -> NDArray[np.float64]:
    """Three pulses in noise, the signs of the first and of the last of which tell the class."""
    x = 0.5 * rng.normal(size=90)
    signs = (1 if label // 2 else -1, rng.choice([-1, 1]), 1 if label % 2 else -1)
    for sign, (low, high) in zip(signs, ((0, 20), (30, 50), (60, 80)), strict=True):
        at = rng.integers(low, high)
        x[at : at + 8] += 3 * sign
    return x


def frequency(rng: np.random.Generator, label: int) -> NDArray[np.float64]:
    """A wave of one of three near frequencies and any phase, in noise."""
    wave = np.sin(np.arange(80) * (0.5 + 0.06 * label) + rng.uniform(0, 2 * np.pi))
    return wave + 0.5 * rng.normal(size=80)


def _digits() -> Set:
    """Small images of ten digits, read row by row: 8 steps of 8 features."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    series, labels = images.reshape(-1, 8, 8), labels.astype(str)
    return Set(_data([*series[:150]], labels[:150]), _data([*series[150:]], labels[150:]))


ONLY_CHOSEN_ON: dict[str, Callable[[], Set]] = {
    "UnitTest": lambda: _of_aeon("load_unit_test"),
    "Digits": _digits,
    "DailyLoad": lambda: _drawn(daily_load, 2, (60, 60)),
    "TwoNorm": lambda: _drawn(two_norm, 2, (60, 60)),
    "PlaceOfBump": lambda: _drawn(place_of_bump, 3, (60, 60)),
    "ShapeAnywhere": lambda: _drawn(shape_anywhere, 3, (60, 60)),
    "FirstAndLast": lambda: _drawn(first_and_last, 4, (80, 80)),
    "Frequency": lambda: _drawn(frequency, 3, (60, 60)),
}
"""More sets, small ones, whose training parts alone are for choosing: in half of them the place of
a value tells the class, in the others it does not."""

SETS: dict[str, Callable[[], Set]] = {
    "ItalyPowerDemand": lambda: _of_aeon("load_italy_power_demand"),
    "JapaneseVowels": lambda: _of_aeon("load_japanese_vowels"),
    "BasicMotions": lambda: _of_aeon("load_basic_motions"),
    "GunPoint": lambda: _of_aeon("load_gunpoint"),
    "ArrowHead": lambda: _of_aeon("load_arrow_head"),
    "ACSF1": lambda: _of_aeon("load_acsf1"),
    "CBF": lambda: _drawn(cylinder_bell_funnel, 3, (30, 900)),
    "ControlChart": lambda: _drawn(control_chart, 6, (120, 300)),
    "Waveform": lambda: _drawn(waveform, 3, (120, 600)),
    "OrderOfEvents": lambda: _drawn(order_of_events, 2, (60, 300)),
    "PickupGesture": lambda: _of_aeon("load_pickup_gesture_wiimoteZ"),
    "TwoPatterns": lambda: _drawn(two_patterns, 4, (200, 1000)),
    "OSULeaf": lambda: _of_aeon("load_osuleaf"),
}

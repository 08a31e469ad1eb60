import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from longlag.batch import IGNORED_CLASS
from longlag.gradients.losses import (
    Quantile,
    WeightedCrossEntropy,
    cross_entropy,
    due,
    logistic,
    mae,
    mse,
    resolve_loss,
)

NAN = float("nan")
WEIGHTED = WeightedCrossEntropy((1, 2.5, 0, 4))
OF_CLASSES = (cross_entropy, WEIGHTED)
masks = st.lists(st.booleans(), min_size=1, max_size=12)


@given(masks, st.integers(0, 2**31))
def test_cross_entropy_is_the_mean_over_places_that_are_due(mask, seed):
    """Against NumPy in float64: log sum exp minus the logit of the class."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 3, (len(mask), 4))
    target = np.where(mask, generator.integers(0, 4, len(mask)), IGNORED_CLASS)
    rows = logits[mask]
    picked = rows[np.arange(len(rows)), target[mask]]
    expected = (np.log(np.exp(rows).sum(1)) - picked).mean() if len(rows) else 0.0
    found = cross_entropy(torch.from_numpy(logits), torch.from_numpy(target)).item()
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(("loss", "power"), [(mse, 2), (mae, 1)])
@given(mask=masks, seed=st.integers(0, 2**31))
def test_mse_and_mae_are_means_over_places_that_are_due(loss, power, mask, seed):
    generator = np.random.default_rng(seed)
    output, target = generator.normal(size=(2, len(mask)))
    difference = np.abs(output - target)[mask] ** power
    expected = difference.mean() if len(difference) else 0.0
    target[~np.array(mask)] = np.nan
    found = loss(torch.from_numpy(output), torch.from_numpy(target)).item()
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    ("loss", "of"),
    [
        (
            logistic,
            lambda y, t: -t * np.log(1 / (1 + np.exp(-y))) - (1 - t) * np.log(1 / (1 + np.exp(y))),
        ),
        (Quantile(0.8), lambda y, t: np.where(t > y, 0.8 * (t - y), 0.2 * (y - t))),
    ],
)
@given(mask=masks, seed=st.integers(0, 2**31))
def test_logistic_and_quantile_are_means_over_places_that_are_due(loss, of, mask, seed):
    generator = np.random.default_rng(seed)
    output, target = generator.normal(size=len(mask)), generator.random(len(mask))
    losses = of(output, target)[mask]
    expected = losses.mean() if len(losses) else 0.0
    target[~np.array(mask)] = np.nan
    found = loss(torch.from_numpy(output), torch.from_numpy(target)).item()
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


@given(masks, st.integers(0, 2**31))
def test_weights_of_classes_are_those_of_a_weighted_mean(mask, seed):
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 3, (len(mask), 4))
    target = np.where(mask, generator.integers(0, 4, len(mask)), IGNORED_CLASS)
    rows, classes = logits[mask], target[mask]
    losses = np.log(np.exp(rows).sum(1)) - rows[np.arange(len(rows)), classes]
    weights = np.array(WEIGHTED.weights)[classes]
    expected = (weights * losses).sum() / weights.sum() if weights.sum() else 0.0
    found = WEIGHTED(torch.from_numpy(logits), torch.from_numpy(target)).item()
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_settings_of_losses_that_are_out_of_range_are_refused():
    for weights in ((1, -1), (0, 0), (1, NAN), (1, float("inf")), ()):
        with pytest.raises(ValueError, match=r"weights are .* expected a finite number >= 0"):
            WeightedCrossEntropy(weights)
    with pytest.raises(ValueError, match=r"has 4 weights, .* output has shape \(2, 3\)"):
        WEIGHTED(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))
    for level in (0, 1, NAN):
        with pytest.raises(ValueError, match=r"level is .* between 0 and 1"):
            Quantile(level)


@pytest.mark.parametrize("rubbish", [NAN, float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("loss", [*OF_CLASSES, logistic, mse, mae, Quantile(0.3)])
def test_rubbish_where_no_error_is_due_changes_no_gradient(loss, rubbish):
    shape = (2, 3, 4) if loss in OF_CLASSES else (2, 3)
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(shape, generator=generator)
    if loss in OF_CLASSES:
        target = torch.tensor([[1, IGNORED_CLASS, 3], [0, 2, IGNORED_CLASS]])
    else:
        target = torch.tensor([[1.0, NAN, 3.0], [0.0, 2.0, NAN]])
    dirty = clean.clone()
    dirty[0, 1] = rubbish
    dirty[1, 2] = rubbish
    found = []
    for output in (clean, dirty):
        output.requires_grad_()
        value = loss(output, target)
        value.backward()
        found.append((value.item(), output.grad))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])
    assert found[1][1][0, 1].count_nonzero() == 0
    assert found[1][1][0, 0].count_nonzero() > 0


@pytest.mark.parametrize("loss", [*OF_CLASSES, logistic, mse, mae, Quantile(0.3)])
def test_no_error_due_anywhere_is_zero_with_zero_gradients(loss):
    output = torch.ones((2, 4) if loss in OF_CLASSES else (2,), requires_grad=True)
    target = torch.full((2,), IGNORED_CLASS) if loss in OF_CLASSES else torch.full((2,), NAN)
    value = loss(output, target)
    value.backward()
    assert value.item() == 0
    assert output.grad is not None
    assert output.grad.count_nonzero() == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_dtype_of_the_output_is_kept(dtype):
    output, target = torch.ones(3, dtype=dtype), torch.zeros(3, dtype=dtype)
    assert mse(output, target).dtype == mae(output, target).dtype == dtype
    assert cross_entropy(torch.ones(3, 2, dtype=dtype), torch.zeros(3).long()).dtype == dtype


@pytest.mark.parametrize(
    ("loss", "output", "target", "fix"),
    [
        (mse, (5, 1), (5,), r"target\.unsqueeze\(-1\)"),
        (mse, (5, 7, 1), (5, 1), "reduce='last'"),
        (
            mse,
            (5, 3),
            (5,),
            r"Give classes as whole numbers, target.long\(\); or, of numbers, .* 3",
        ),
        (mse, (5, 2), (5, 3), "output size"),
        (mae, (5,), (5, 1), "output size"),
        (cross_entropy, (5, 7, 3), (5,), "reduce='last'"),
        (cross_entropy, (5, 3), (5, 7), "output size"),
        (cross_entropy, (5, 3), (4,), "output size"),
    ],
)
def test_shapes_that_would_broadcast_are_refused(loss, output, target, fix):
    values = torch.zeros(target, dtype=torch.int64 if loss in OF_CLASSES else torch.float32)
    sizes = (str(output).replace("(", r"\(").replace(")", r"\)") for output in (output, target))
    message = "model's output has shape {} and target {}; expected .*".format(*sizes) + fix
    with pytest.raises(ValueError, match=message):
        loss(torch.zeros(output), values)


@pytest.mark.parametrize("wrong", [3, -1])
def test_a_class_that_the_output_does_not_have_is_named(wrong):
    with pytest.raises(ValueError, match=r"target has classes .*; expected classes 0\.\.K-1"):
        cross_entropy(torch.zeros(2, 3), torch.tensor([IGNORED_CLASS, wrong]))


def test_due_follows_the_convention():
    assert due(torch.tensor([0, -100, -1])).tolist() == [True, False, True]
    assert due(torch.tensor([0.0, NAN, float("inf")])).tolist() == [True, False, True]


def test_the_default_follows_the_dtype():
    assert resolve_loss(None, torch.zeros(1)) == ("mse", mse)
    assert resolve_loss(None, torch.zeros(1).long()) == ("cross_entropy", cross_entropy)
    assert resolve_loss("mae", torch.zeros(1)) == ("mae", mae)
    assert resolve_loss(functional.l1_loss, torch.zeros(1)) == ("l1_loss", functional.l1_loss)


@pytest.mark.parametrize(
    ("loss", "target", "error", "message"),
    [
        (
            "hinge",
            torch.zeros(1),
            ValueError,
            r"loss is 'hinge'; expected one of \['cross_entropy'",
        ),
        ("mse", torch.zeros(1).long(), ValueError, "takes float values, and target is torch.int64"),
        ("cross_entropy", torch.zeros(1), ValueError, "takes int64 classes, and target is"),
        (3, torch.zeros(1), TypeError, "loss is a int; expected a name or callable"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(loss, target, error, message):
    with pytest.raises(error, match=message):
        resolve_loss(loss, target)

"""Trials side by side: each is a network of its own, and the count is what its criterion says."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

import longlag as ll
from longlag.lab.reproduce import groups, nets, trials
from longlag.lab.reproduce.groups import Compiled, Group, Recipe, Replicas, clip_each, error_of
from longlag.lab.reproduce.lag_table import ALONE, ENDS, ends_first
from longlag.lab.reproduce.recipes import adam
from longlag.lab.reproduce.temporal_order import LENGTHS, wrong_by_length
from longlag.lab.reproduce.trials import count_weights, train
from longlag.tasks import (
    Batch,
    Criterion,
    EmbeddedReber,
    LongLag,
    LongLagTrigger,
    TemporalOrder,
)

EASY = Recipe(nets.lstm_2a, adam(0.1, (0.9, 0.99)), check_every=10)


@pytest.mark.slow
def test_trials_succeed_and_are_networks_that_meet_the_criterion():
    task, told = LongLag(3), []
    outcome, models = train(
        task, EASY, 3, 3000, sequences=100, progress=lambda *said: told.append(said)
    )
    assert len(outcome.solved) == 3
    assert outcome.weights == count_weights(models[0]) == 4 + 4 + 4 * 5
    assert not outcome.stopped
    assert told[-1] == (max(outcome.solved), 3)
    for model in models:
        assert model.layer.replicas is None

        @torch.no_grad()
        def predict(x, lengths, model=model):
            return model(torch.from_numpy(x)).numpy()

        assert task.success(predict, sequences=100).success


def test_a_trial_that_has_succeeded_keeps_its_count(monkeypatch):
    """Those that go on beside it do not change when it succeeded, nor its network."""
    met, tested = [None, 30, None], []

    def look(self, batch):
        at = 10 * (len(looks) + 1)
        looks.append(at)
        return [
            Criterion(met[k] is not None and at >= met[k], 0, 1, 0.0, 0.0, 0.0, task.rule)
            for k in self.trials
        ]

    looks: list[int] = []
    task = LongLag(3)
    monkeypatch.setattr(groups.Group, "look", look)
    monkeypatch.setattr(trials, "_meets", lambda *given: tested.append(given[1]) or True)
    outcome, models = train(task, EASY, 3, 100)
    assert outcome.sequences == (None, 30, None)
    assert len(tested) == 1
    assert models[1] is tested[0]


def test_the_same_seed_gives_the_same_outcome_and_another_another():
    runs = [train(LongLag(3), EASY, 2, 100, seed=seed)[1] for seed in (0, 0, 1)]
    first, again, other = ([p.detach() for p in run[0].parameters()] for run in runs)
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first, other))


def test_a_budget_that_ends_a_trial_is_said():
    outcome, models = train(LongLag(20), EASY, 2, 30)
    assert outcome.sequences == (None, None)
    assert outcome.stopped
    assert outcome.mean is None
    assert outcome.budget == 30
    assert len(models) == 2


TRAINED = {
    "direct": (LongLag(5), Recipe(nets.lstm_2a, adam(0.1, (0.9, 0.99)))),
    "lengths": (
        LongLagTrigger(q=3, p=2),
        Recipe(nets.cells_1997(2, 0.2), adam(0.05), batch_size=2, clip_norm=0.01),
    ),
    "classes": (
        TemporalOrder(20),
        Recipe(nets.family("GRU", 4), adam(0.01), batch_size=2, clip_norm=1.0),
    ),
    "curriculum": (
        LongLag(4),
        Recipe(
            nets.latch(6.0), adam(0.03), alone=3,
            curriculum=lambda batch, n: ends_first(batch, ALONE + 1 if n in (3, 6) else 0),
        ),
    ),
}  # fmt: skip


def replicas(task, recipe, count):
    model = recipe.network(task, count, 0)
    added = model.linear_readout.weight.detach().clone()
    if recipe.alone:
        model.linear_readout.weight.detach().zero_()
    return Replicas(task, recipe, 0, list(range(count)), model, added)


@pytest.mark.parametrize("case", TRAINED)
def test_compiled_trials_are_those_of_replicas_and_of_networks_alone(case):
    task, recipe = TRAINED[case]
    compiled, group = Group.begin(task, recipe, 3, seed=0), replicas(task, recipe, 3)
    assert isinstance(compiled, Compiled)
    alone = [group.single(k) for k in range(3)]
    optimizers = [recipe.optimizer(model.parameters()) for model in alone]
    for number in range(1, 9):
        batch = group.draw(number)
        for k, (model, optimizer) in enumerate(zip(alone, optimizers, strict=True)):
            if recipe.alone and number == recipe.alone + 1:
                model.readout.weight.detach().copy_(group.added_weight[k])
            rows = slice(k * recipe.batch_size, (k + 1) * recipe.batch_size)
            x, target, lengths, *_ = batch.map(
                lambda part, rows=rows: torch.from_numpy(part[rows].copy())
            )
            optimizer.zero_grad()
            error_of(model(x, lengths=lengths)[None], target[None]).backward()
            if number <= recipe.alone:
                for weight in (*model.layer.parameters(), model.readout.weight):
                    weight.grad = None
            if recipe.clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimizer.step()
    group.advance(1, 9)
    compiled.advance(1, 6)
    compiled.advance(6, 9)
    probe = task.test_batch(4, 1, 0)
    for k, (one, other) in enumerate(
        zip(group.outputs(probe), compiled.outputs(probe), strict=True)
    ):
        np.testing.assert_allclose(one, other, atol=1e-4)
        for name, weight in alone[k].state_dict().items():
            torch.testing.assert_close(group.weights_of(k)[name], weight, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(compiled.weights_of(k)[name], weight, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [Group.begin, lambda *given, seed: replicas(*given)])
def test_a_smaller_group_goes_on_with_weights_and_optimizer(kind):
    task, recipe = TRAINED["lengths"]
    groups = [kind(task, recipe, 3, seed=0) for _ in range(2)]
    for group in groups:
        group.advance(1, 6)
    whole, part = groups[0], groups[1].only([0, 2])
    assert part.trials == [0, 2]
    drawn = task.batch(6, 0, 6)
    whole.draw = lambda number: drawn
    part.draw = lambda number: drawn.map(lambda rows: rows[[0, 1, 4, 5]])
    for group in (whole, part):
        group.advance(6, 7)
    for place, trial in enumerate(part.trials):
        for name, weight in part.weights_of(place).items():
            torch.testing.assert_close(weight, whole.weights_of(trial)[name])


@pytest.mark.parametrize("kind", [Group.begin, lambda *given, seed: replicas(*given)])
def test_the_layer_is_left_alone_until_it_is_added(kind):
    group = kind(LongLag(4), Recipe(nets.one_unit, adam(0.1), alone=3), 2, seed=0)

    def weights():
        return {name: part.clone() for name, part in group.weights_of(1).items()}

    before = weights()
    group.advance(1, 4)
    after = weights()
    assert after["readout.weight"].abs().max() == 0
    assert torch.equal(before["layer.weight_ih"], after["layer.weight_ih"])
    assert not torch.equal(before["readout.weight_direct"], after["readout.weight_direct"])
    group.advance(4, 5)
    assert weights()["readout.weight"].abs().min() > 0
    assert not torch.equal(before["layer.weight_ih"], weights()["layer.weight_ih"])


def test_a_compiled_trial_goes_on_after_a_gradient_that_is_not_finite():
    """No update is made of it; the other trials never see it."""
    task, recipe = TRAINED["direct"]
    groups = [Group.begin(task, recipe, 2, seed=0) for _ in range(2)]
    drawn = {n: task.batch(2, 0, n) for n in range(1, 6)}
    spoiled = drawn[3].map(np.copy)
    spoiled.x[1] = np.inf
    groups[0].draw = lambda number: drawn[number]
    groups[1].draw = lambda number: spoiled if number == 3 else drawn[number]
    for group in groups:
        group.advance(1, 6)
    good, other = groups
    for name, weight in good.weights_of(0).items():
        assert torch.equal(weight, other.weights_of(0)[name])
    third = Group.begin(task, recipe, 2, seed=0)
    third.draw = lambda number: drawn[number if number < 3 else number + 1]
    third.advance(1, 5)
    for name, weight in third.weights_of(1).items():
        torch.testing.assert_close(weight, other.weights_of(1)[name], rtol=1e-4, atol=1e-5)


def test_a_gradient_that_is_not_finite_becomes_zero_for_that_trial_only():
    weight, other = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2, 1, 1))
    weight.grad = torch.tensor([[float("nan"), 1.0], [3.0, 0.0]])
    other.grad = torch.tensor([[[1.0]], [[4.0]]])
    clip_each([weight, other], 1.0)
    torch.testing.assert_close(weight.grad, torch.tensor([[0.0, 0.0], [0.6, 0.0]]))
    torch.testing.assert_close(other.grad, torch.tensor([[[0.0]], [[0.8]]]))


def test_the_loss_counts_what_is_due():
    output = torch.tensor([[[1.0, 5.0], [2.0, 7.0]]])  # one trial, two sequences
    target = torch.tensor([[[0.0, float("nan")], [0.0, 6.0]]])
    assert error_of(output, target) == pytest.approx(0.5 * (1 + 4 + 1) / 2)
    scores, classes = torch.randn(2, 3, 4), torch.tensor([[0, 1, -100], [2, 3, 0]])
    each = nn.functional.cross_entropy(scores.flatten(0, 1), classes.flatten(), reduction="none")
    torch.testing.assert_close(error_of(scores, classes), each.sum() / 3)


@pytest.mark.parametrize(
    ("network", "weights"),
    [
        (nets.one_unit, 10_404),
        (nets.latch(6.0), 10_404),
        (nets.latch_tanh(2.0), 10_404),
        (nets.lstm_2a, 10_504),
    ],
)
def test_the_nets_of_1997_have_their_weights(network, weights):
    assert count_weights(network(LongLag(100), None, 0)) == weights
    several = network(LongLag(100), 2, 0)
    assert count_weights(several) == 2 * weights
    assert not torch.equal(several.readout.weight[0], several.readout.weight[1])


def test_a_latch_keeps_what_it_is_given():
    """From above the balance it goes up and stays, from below it goes down."""
    model = nets.latch(6.0)(LongLag(50), None, 0)
    x = torch.zeros(1, 40, 51)
    x[0, range(40), range(40)] = 1
    for begin, end in ((0.8, 0.9), (0.2, 0.1)):
        h, _ = model.layer(x, torch.tensor([[begin]]))
        assert (h[0, -1] > end) if end > 0.5 else (h[0, -1] < end)


def test_the_curriculum_shows_the_ends():
    batch = LongLag(5).batch(3, 0, 0)
    assert ends_first(batch, ALONE) is batch
    assert ends_first(batch, ENDS + 1) is batch
    short = ends_first(batch, ENDS)
    assert short.x.shape == (3, 2, 6)
    np.testing.assert_array_equal(short.x[:, 1], batch.x[:, -1])
    np.testing.assert_array_equal(short.target[:, 1], batch.target[:, -1])
    assert np.isnan(short.target[:, 0]).all()
    assert not np.isnan(batch.target).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", nets.FAMILIES)
@pytest.mark.parametrize("task", [LongLag(5), EmbeddedReber(), TemporalOrder(20)], ids=repr)
def test_every_family_takes_every_task(name, task):
    recipe = Recipe(nets.family(name, 4), adam(0.01), batch_size=2, omega=None, clip_norm=1.0)
    outcome, _ = train(task, recipe, 2, 4, sequences=None)
    assert outcome.budget == 4
    assert len(outcome.curve) >= 1


def test_omega_is_part_of_the_gradient():
    task = TemporalOrder(20)
    make = functools.partial(Recipe, nets.elman_2013(20), adam(0.01), 2)
    plain, with_omega = (
        replicas(task, make(), 2),
        Group.begin(task, make(omega=ll.Omega(4.0)), 2, 0),
    )
    assert isinstance(with_omega, Replicas)
    for group in (plain, with_omega):
        group.update(1)
    first, second = plain.model.layer, with_omega.model.layer
    assert not torch.equal(first.weight_hh.grad, second.weight_hh.grad)
    torch.testing.assert_close(first.weight_ih.grad, second.weight_ih.grad)


def test_smart_tanh_is_sparse_with_radius_095():
    layer = nets.elman_2013()(TemporalOrder(50), None, 0).layer
    assert ((layer.weight_hh != 0).sum(1) == 15).all()
    assert ll.init.spectral_radius(layer.weight_hh.detach()) == pytest.approx(0.95, rel=1e-4)


def test_wrong_sequences_are_counted_at_every_length():
    model = nets.elman_2013(20)(TemporalOrder(50), None, 0)
    found = wrong_by_length(model, 20)
    assert list(found) == [str(length) for length in LENGTHS]
    assert all(0 < wrong <= 20 for wrong in found.values())  # four classes, nothing learned
    assert wrong_by_length(model, 20) == found


def test_a_task_of_classes_is_looked_at_by_its_wrong_sequences():
    recipe = Recipe(nets.elman_2013(15), adam(0.01), batch_size=2)
    outcome, _ = train(TemporalOrder(20), recipe, 1, 2)
    assert outcome.measure == "share of wrong sequences"
    assert all(0 <= value <= 1 for _, *values in outcome.curve for value in values)


def test_batches_are_torch_tensors_of_the_task():
    """All trials get sequences of their own: one draw, split among them."""
    seen = []

    def watch(batch: Batch, update: int) -> Batch:
        seen.append(batch)
        return batch

    recipe = Recipe(nets.lstm_2a, adam(0.1), batch_size=3, curriculum=watch)
    Group.begin(LongLag(3), recipe, 4, seed=7).advance(5, 6)
    np.testing.assert_array_equal(seen[0].x, LongLag(3).batch(12, 7, 5).x)

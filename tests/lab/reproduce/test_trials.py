"""Trials side by side: each is a network of its own, and the count is what its criterion says."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

import longlag as ll
from longlag.lab.reproduce import nets, trials
from longlag.lab.reproduce.lag_table import ALONE, ENDS, ends_first
from longlag.lab.reproduce.recipes import adam
from longlag.lab.reproduce.temporal_order import LENGTHS, wrong_by_length
from longlag.lab.reproduce.trials import Recipe, _Group, clip_each, count_weights, error_of, train
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
    monkeypatch.setattr(trials._Group, "look", look)
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


def test_a_trial_in_a_group_is_that_trial_on_its_own():
    """The update of replica k is the one a single network would make of the same sequences."""
    task = LongLagTrigger(q=3, p=2)
    recipe = Recipe(nets.cells_1997(2, 0.2), adam(0.05), batch_size=2, clip_norm=0.01)
    group = _Group.begin(task, recipe, 3, seed=0)
    alone = [group.single(k) for k in range(3)]
    for number in (1, 2):
        batch = task.batch(6, 0, number)
        for k, model in enumerate(alone):
            rows = slice(2 * k, 2 * k + 2)
            optimizer = model.__dict__.setdefault(
                "_optimizer", recipe.optimizer(model.parameters())
            )
            optimizer.zero_grad()
            output = model(
                torch.from_numpy(batch.x[rows]), lengths=torch.from_numpy(batch.lengths[rows])
            )
            error_of(output[None], torch.from_numpy(batch.target[rows])[None]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            optimizer.step()
        group.update(number)
    for k, model in enumerate(alone):
        for name, weight in model.state_dict().items():
            torch.testing.assert_close(group.model.state_dict()[name][k], weight)


def test_a_smaller_group_goes_on_with_weights_and_optimizer():
    task = LongLag(4)
    group = _Group.begin(task, EASY, 3, seed=0)
    for number in range(1, 6):
        group.update(number)
    part = group.only([0, 2])
    assert part.trials == [0, 2]
    for old, new in zip(group.model.parameters(), part.model.parameters(), strict=True):
        old.grad = torch.ones_like(old)
        new.grad = torch.ones_like(new)
    group.optimizer.step()
    part.optimizer.step()
    for old, new in zip(group.model.parameters(), part.model.parameters(), strict=True):
        assert torch.equal(old[[0, 2]], new)


def test_the_layer_is_left_alone_until_it_is_added():
    recipe = Recipe(nets.one_unit, adam(0.1), alone=3)
    group = _Group.begin(LongLag(4), recipe, 2, seed=0)
    before = [p.detach().clone() for p in group.model.layer.parameters()]
    direct = group.model.readout.weight_direct.detach().clone()
    for number in (1, 2, 3):
        group.update(number)
        assert group.model.readout.weight.abs().max() == 0
    assert all(map(torch.equal, before, group.model.layer.parameters()))
    assert not torch.equal(direct, group.model.readout.weight_direct)
    group.update(4)
    assert group.model.readout.weight.abs().min() > 0
    assert not any(map(torch.equal, before, group.model.layer.parameters()))


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
        _Group.begin(task, make(omega=each), 2, 0) for each in (None, ll.Omega(4.0))
    )
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
    _Group.begin(LongLag(3), recipe, 4, seed=7).update(5)
    np.testing.assert_array_equal(seen[0].x, LongLag(3).batch(12, 7, 5).x)

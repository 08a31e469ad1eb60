"""A compiled step within Keras' fit, beside Keras' own step, and where it is Keras' own."""

import keras
import numpy as np
import pytest
import torch

import longlag.keras as ours
from longlag.keras.losses import CrossEntropy, Elementwise

N, T, C, K = 21, 9, 5, 3
X = np.random.default_rng(0).normal(size=(N, T, C))
NUMBERS = np.random.default_rng(1)
CLASSES, EACH = NUMBERS.integers(0, K, N), NUMBERS.integers(0, K, (N, T))
SHARES = NUMBERS.random((N, K))

LOSSES = {
    "categorical_crossentropy": ("softmax", np.eye(K)[CLASSES]),
    "sparse_categorical_crossentropy": ("softmax", CLASSES),
    "binary_crossentropy": ("sigmoid", SHARES),
    "mse": ("linear", SHARES),
    "mae": ("tanh", SHARES),
}
OPTIMIZERS = {
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01),
    "rmsprop, all": lambda: keras.optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "adam": lambda: keras.optimizers.Adam(0.01, epsilon=1e-3),
    "adam, schedule": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.9)
    ),
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "sgd, momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "sgd, clipped": lambda: keras.optimizers.SGD(
        0.1, momentum=0.9, nesterov=True, global_clipnorm=0.05
    ),
}


def network(kind, names=("SimpleRNN",), activation="softmax", every=False, top=(), **options):
    """Layers of ours in a model of a kind, Keras' or ours."""
    keras.utils.set_random_seed(0)
    last = len(names) - 1
    return kind(
        [
            keras.Input((T, C)),
            *(
                getattr(ours, name)(4, return_sequences=every or number < last, **options)
                for number, name in enumerate(names)
            ),
            *top,
            keras.layers.Dense(K),
            keras.layers.Activation(activation),
        ]
    )


def trained(model, y, optimizer="rmsprop", loss="categorical_crossentropy", epochs=2, **fit):
    """A model after some updates in shuffled batches of 8, 8 and 5, and what fit gave."""
    keras.utils.set_random_seed(1)
    made = OPTIMIZERS[optimizer]() if optimizer in OPTIMIZERS else optimizer
    model.compile(optimizer=made, loss=loss, metrics=["accuracy"])
    history = model.fit(X, y, batch_size=8, epochs=epochs, verbose=0, **fit)
    return model, history.history


def assert_same(mine, theirs, atol=2e-6):
    """Weights, the optimizer's variables and the history."""
    (model, history), (other, wanted) = mine, theirs
    assert history.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    pairs = zip(
        model.weights + model.optimizer.variables,
        other.weights + other.optimizer.variables,
        strict=True,
    )
    for one, two in pairs:
        np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=1e-4, atol=atol)


def both(y, loss, optimizer="rmsprop", fit=None, **options):
    """Train a model of Keras and one of ours; ours by compiled steps."""
    results = [
        trained(network(kind, **options), y, optimizer, loss, **fit or {})
        for kind in (ours.Sequential, keras.Sequential)
    ]
    model = results[0][0]
    assert (model.step_used, model.step_reason) == ("compiled", "")
    assert_same(*results)
    return results


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_updates_are_those_of_each_optimizer(optimizer):
    (model, _), _ = both(SHARES, "mse", optimizer, activation="linear")
    assert int(model.optimizer.iterations) == 6


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("every", [False, True])
def test_updates_are_those_of_each_loss(loss, every):
    activation, y = LOSSES[loss]
    if every:
        y = EACH if y.ndim == 1 else NUMBERS.permutation(np.stack([y] * T, 1))
    both(y, loss, activation=activation, every=every)


@pytest.mark.parametrize("names", [("LSTM",), ("GRU",), ("GRU", "LSTM", "SimpleRNN")])
@pytest.mark.parametrize("use_bias", [True, False])
def test_updates_are_those_of_each_layer(names, use_bias):
    both(LOSSES["categorical_crossentropy"][1], "categorical_crossentropy", names=names,
         use_bias=use_bias)  # fmt: skip


def test_the_reset_may_stand_before_the_product():
    both(CLASSES, "sparse_categorical_crossentropy", names=("GRU",), reset_after=False)


LOGITS = [
    keras.losses.CategoricalCrossentropy(from_logits=True),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    keras.losses.BinaryCrossentropy(from_logits=True),
]


@pytest.mark.parametrize("loss", LOGITS, ids=lambda loss: loss.name)
def test_losses_of_logits(loss):
    y = CLASSES[:, None] if "sparse" in loss.name else SHARES
    both(y, loss, activation="linear")


def test_more_outputs_than_a_vector_has_numbers():
    def wide(kind):
        keras.utils.set_random_seed(0)
        layers = [keras.Input((T, C)), ours.SimpleRNN(4), keras.layers.Dense(21, "softmax")]
        return kind(layers)

    y = np.eye(21)[np.arange(N)]
    for loss, answers in (("categorical_crossentropy", y), ("mse", y)):
        results = []
        for kind in (ours.Sequential, keras.Sequential):
            model = wide(kind)
            if loss == "mse":
                model.layers[-1].activation = keras.activations.sigmoid
            results.append(trained(model, answers, "adam", loss))
        assert results[0][0].step_used == "compiled"
        assert_same(*results)


def test_probabilities_are_clipped_as_in_keras():
    def sure(kind):
        model = network(kind)
        model.layers[-2].bias.assign([40.0, 0.0, -40.0])
        return model

    y = np.eye(K)[CLASSES]
    mine = trained(sure(ours.Sequential), y, epochs=1)
    assert mine[0].step_used == "compiled"
    assert 5 < mine[1]["loss"][0] < 16.2  # -log(1e-7) is 16.1
    assert_same(mine, trained(sure(keras.Sequential), y, epochs=1))


def test_two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        x, y = np.zeros((64, 30, 8)) + np.arange(8) / 8, np.ones((64, 3))
        results = []
        for kind in (ours.Sequential, keras.Sequential):
            keras.utils.set_random_seed(0)
            model = kind([keras.Input((30, 8)), ours.LSTM(32), keras.layers.Dense(3)])
            model.compile("sgd", "mse")
            results.append((model, model.fit(x, y, epochs=3, verbose=0, batch_size=64).history))
        assert results[0][0].step_used == "compiled"
        assert_same(*results)
    finally:
        torch.set_num_threads(before)


def test_batches_one_by_one_and_answers_of_other_types():
    y = np.eye(K)[CLASSES] == 1
    for loss, answers in (("binary_crossentropy", y), ("sparse_categorical_crossentropy",
                                                       CLASSES.astype("uint16"))):  # fmt: skip
        results = []
        for kind in (ours.Sequential, keras.Sequential):
            model = network(kind, activation=LOSSES[loss][0])
            model.compile("adam", loss)
            for first in (0, 8):
                model.train_on_batch(X[first : first + 8], answers[first : first + 8])
            results.append((model, {}))
        assert (results[0][0].step_used, results[0][0].step_reason) == ("compiled", "")
        assert_same(*results)


class Watching(keras.callbacks.Callback):
    """What a callback sees after each batch; and it changes the rate."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append([float(logs["loss"]), float(logs["accuracy"])])
        self.seen.append([float(np.abs(w).sum()) for w in self.model.get_weights()])
        self.model.optimizer.learning_rate = 0.01 / (1 + batch)


def test_callbacks_see_each_batch_and_validation_each_epoch():
    activation, y = LOSSES["categorical_crossentropy"]
    seen, results = [], []
    for kind in (ours.Sequential, keras.Sequential):
        watching = Watching()
        model = network(kind, activation=activation)
        results.append(trained(model, y, callbacks=[watching], validation_split=0.25))
        seen.append(watching.seen)
    assert results[0][0].step_used == "compiled"
    assert "val_accuracy" in results[0][1]
    assert_same(*results)
    for one, two in zip(*seen, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)


def test_weights_may_be_set_and_layers_frozen_between_updates():
    class Meddling(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.layers[0].trainable = epoch == 1
            if epoch == 2:
                self.model.layers[1].set_weights(
                    [w + 0.1 for w in self.model.layers[1].get_weights()]
                )

    def run(kind):
        model = network(kind)
        return trained(model, np.eye(K)[CLASSES], epochs=3, callbacks=[Meddling()])

    mine = run(ours.Sequential)
    assert mine[0].step_used == "compiled"
    assert_same(mine, run(keras.Sequential))


def test_a_functional_model():
    def functional(kind):
        keras.utils.set_random_seed(0)
        x = keras.Input((None, C))
        h = ours.LSTM(4, return_sequences=True)(x)
        return kind(x, keras.layers.TimeDistributed(keras.layers.Dense(K, "softmax"))(h))

    y = np.eye(K)[EACH]
    mine = trained(functional(ours.Model), y)
    assert mine[0].step_used == "compiled"
    assert_same(mine, trained(functional(keras.Model), y))


def test_a_saved_model_goes_on_compiled(tmp_path):
    y = np.eye(K)[CLASSES]
    model, _ = trained(network(ours.Sequential), y, "adam")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is ours.Sequential
    for one in (model, again):
        one.fit(X, y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    assert again.step_used == "compiled"
    for one, two in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_number_that_is_not_finite_is_left_to_keras():
    y = SHARES.copy()
    y[20] = np.nan
    model, history = trained(network(ours.Sequential, activation="linear"), y, loss="mse", epochs=1)
    assert np.isnan(history["loss"][0])
    assert np.isnan(model.get_weights()[-1]).all()  # as Keras has it


def test_arrays_are_left_as_they_are():
    x, y = X.astype("float32"), np.eye(K, dtype="float32")[CLASSES]
    before = x.copy(), y.copy()
    model = network(ours.Sequential)
    model.compile("sgd", "categorical_crossentropy")
    model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


class OwnStep(ours.Sequential):
    def train_step(self, data):
        return super().train_step(data)


def one_hot():
    return np.eye(K)[CLASSES]


REASONS = {
    "Masking": (lambda: network(ours.Sequential, names=(), top=[keras.layers.Masking(),
                                                                ours.SimpleRNN(4)]), {}),
    "dropout": (lambda: network(ours.Sequential, dropout=0.1), {}),
    "recurrent_dropout": (lambda: network(ours.Sequential, recurrent_dropout=0.1), {}),
    "go_backwards": (lambda: network(ours.Sequential, go_backwards=True), {}),
    "a regularizer": (lambda: network(ours.Sequential, kernel_regularizer="l2"), {}),
    "a constraint": (lambda: network(ours.Sequential, bias_constraint="max_norm"), {}),
    "activity_regularizer": (
        lambda: network(ours.Sequential, ("LSTM",), activity_regularizer="l2"), {}),
    "train_step of its own": (lambda: network(OwnStep), {}),
    "expected RMSprop, Adam or SGD": (lambda: network(ours.Sequential), {"optimizer": "nadam"}),
    "weight_decay": (lambda: network(ours.Sequential),
                     {"optimizer": lambda: keras.optimizers.SGD(0.1, weight_decay=0.1)}),
    "clipnorm": (lambda: network(ours.Sequential),
                 {"optimizer": lambda: keras.optimizers.SGD(0.1, clipnorm=0.1)}),
    "label_smoothing": (lambda: network(ours.Sequential),
                        {"loss": lambda: keras.losses.BinaryCrossentropy(label_smoothing=0.1)}),
    "expected one of": (lambda: network(ours.Sequential), {"loss": "huber"}),
    "activation 'softmax' below mean_squared_error": (
        lambda: network(ours.Sequential), {"loss": "mse"}),
    "weights": (lambda: network(ours.Sequential), {"class_weight": {0: 1.0, 1: 2.0, 2: 1.0}}),
}  # fmt: skip


@pytest.mark.parametrize("reason", REASONS)
def test_what_is_not_compiled_is_keras_own_step_and_says_why(reason):
    make, options = REASONS[reason]
    options = {name: o() if callable(o) else o for name, o in options.items()}
    model = make()
    trained(model, one_hot(), epochs=1, **options)
    assert model.step_used == "keras"
    assert reason in model.step_reason


def test_a_model_that_branches_is_not_compiled():
    x = keras.Input((T, C))
    h = ours.SimpleRNN(4, return_sequences=True)(x)
    both_read = keras.layers.Add()([h, ours.LSTM(4, return_sequences=True)(h)])
    model = ours.Model(x, keras.layers.Dense(K, "softmax")(both_read))
    trained(model, np.eye(K)[EACH], epochs=1)
    assert model.step_used == "keras"
    assert model.step_reason


def test_hooks_are_called():
    model = network(ours.Sequential)
    calls = []
    model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    trained(model, one_hot(), epochs=1)
    assert "hooks" in model.step_reason
    assert len(calls) >= 3


def test_equal_losses_are_compiled_once():
    assert CrossEntropy(True, False, 1e-7) == CrossEntropy(True, False, 1e-7)
    assert hash(Elementwise("mse", "tanh", False, 1e-7)) == hash(
        Elementwise("mse", "tanh", False, 1e-7)
    )

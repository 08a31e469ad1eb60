"""Linear readouts by estimators of scikit-learn."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from longlag.arguments import check_number, check_whole
from longlag.reservoirs.method import LinearReadout
from longlag.reservoirs.rows import Rows

_PROBED = 1000
"""Rows on which a fitted estimator is compared with the linear function that it should be."""

Array = NDArray[np.float64]


@runtime_checkable
class Estimator(Protocol):
    """What scikit-learn's estimators have in common."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments that it was made with."""
        ...

    def fit(self, X: Any, y: Any) -> Any:
        """Fit it."""
        ...


@dataclass(frozen=True)
class ScikitLearn:
    """An estimator of scikit-learn, fitted as the readout.

    ``ll.fit(model, data, method=estimator)`` is short for ``method=ScikitLearn(estimator)``. What
    it finds is written into the linear readout of the model, which is then saved, generates and is
    trained on as any other. So it has to be linear in the features once it is fitted, whatever it
    is: Lasso, HuberRegressor, LogisticRegression, LinearSVC, a pipeline with a scaler, a
    GridSearchCV of such. This is tried on the data themselves; a forest, or a SVC with a kernel, is
    refused, and the model is as it was.

    A classifier gives the logits of the classes 0 .. K - 1, its ``decision_function``; one that
    has a single number d for two classes the logits -d / 2 and d / 2, so that softmax gives
    the probabilities of LogisticRegression. A regressor on classes is fitted to 1 for the class and
    0 for the others. The error in the history is the mean square error to these numbers, which of
    logits says little; ``validation=`` measures what is wanted. Weights of sequences, and of a
    ``WeightedCrossEntropy``, are refused; those of classes are an argument of many estimators.

    Args:
        estimator: it is not changed; a copy of it is fitted.
        washout: steps at the beginning of each sequence, and after each reset, that are left out.
        state_noise: as for :class:`~longlag.Ridge`.

    Raises:
        ValueError, TypeError: for an argument out of range.

    Cost: features and targets of all steps are in memory, in float64, for its ``fit``. Of
    :class:`~longlag.Streams` an estimator with ``partial_fit`` gets them piece by piece, each once.

    Example:
        >>> import longlag as ll
        >>> from sklearn.linear_model import Lasso
        >>> x = torch.rand(1, 500, 1, generator=torch.Generator().manual_seed(0))
        >>> model = ll.SequenceModel(ll.EchoState(1, 50, seed=0), 1, reduce=None)
        >>> history = ll.fit(model, (x[:, 1:], x[:, :-1]), method=Lasso(1e-3))
        >>> int((model.readout.weight != 0.0).sum()) < 40  # others are not needed
        True
    """

    estimator: Estimator
    washout: int = 0
    state_noise: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.estimator, type) or not isinstance(self.estimator, Estimator):
            raise TypeError(
                f"estimator: got {self.estimator!r:.80}, expected an estimator of scikit-learn, "
                "such as sklearn.linear_model.Lasso()"
            )
        check_whole("washout", self.washout, 0)
        check_number("state_noise", self.state_noise, least=0.0)

    @property
    def name(self) -> str:
        """That of the estimator's class."""
        return type(self.estimator).__name__

    def solve(self, rows: Rows) -> LinearReadout:
        """The readout for these rows.

        Raises:
            ValueError, TypeError: there is no row; a feature is not finite; targets or data do not
                go with the estimator; it is not linear.
        """
        from sklearn.base import clone, is_classifier  # here: it takes a second to import

        fitted: Any = clone(self.estimator)  # type: ignore[type-var]
        classes = is_classifier(fitted)
        first = self._fit(fitted, rows, classes)
        function = _outputs(fitted) if classes else fitted.predict
        readout, like = rows.readout, rows.readout.weight

        def outputs(features: Array) -> Array:
            return np.asarray(function(features), np.float64).reshape(len(features), -1)

        origin = np.zeros((1, readout.features_size))
        bias = outputs(origin)[0]
        weight = (outputs(np.eye(readout.features_size)) - bias).T
        there = outputs(first)
        size = max(1.0, float(np.abs(there).max()))
        linear = np.abs(first @ weight.T + bias - there).max() < 1e-6 * size
        if classes and len(bias) > 1:
            linear = linear and bool((there.argmax(-1) == fitted.predict(first)).all())
        if not linear:
            raise TypeError(
                f"method: {self.name} is not linear in the features, and the readout of "
                "ll.SequenceModel(layer, output_size) is; expected a linear estimator, such as "
                "Lasso, LogisticRegression or LinearSVC. For another one, fit it to the states: "
                "h, _ = model.layer(x)"
            )
        if len(bias) == 1 and classes:
            weight, bias = np.concatenate([-weight, weight]) / 2.0, np.repeat(bias, 2) * [-0.5, 0.5]
        if readout.bias is None and np.abs(bias).max() > 1e-9 * size:
            raise ValueError(
                f"model: {self.name} found an intercept, and the readout has no bias; expected "
                f"{self.name}(fit_intercept=False), or a model with bias=True"
            )
        return LinearReadout(
            torch.from_numpy(weight).to(like.device), torch.from_numpy(bias).to(like.device)
        )

    def _fit(self, fitted: Any, rows: Rows, classes: bool) -> Array:
        """Fit it; returns some of the features."""
        outputs, learns = rows.readout.output_size, getattr(fitted, "partial_fit", None)
        features: list[Array] = []
        targets: list[Array] = []
        for sample in rows.samples():
            if classes and not sample.classes:
                raise TypeError(
                    f"target: holds numbers, and {self.name} is a classifier; expected classes, as "
                    "whole numbers, or a regressor"
                )
            target = sample.target.argmax(-1) if classes else sample.target
            f, y = sample.features.cpu().numpy(), target.cpu().numpy()
            if not classes and outputs == 1:
                y = y[:, 0]
            if not rows.continues or learns is None:
                features.append(f)
                targets.append(y)
            elif len(f):
                learns(f, y, **({"classes": np.arange(outputs)} if classes else {}))
                features = features or [f]
        if targets:
            y = np.concatenate(targets)
            missing = sorted({*range(outputs)} - {*y.tolist()}) if classes else []
            if missing:
                raise ValueError(
                    f"target: has no step with class {missing[0]}, for which {self.name} has no "
                    f"weights then; expected all of the {outputs} classes that the model puts out"
                )
            features = [np.concatenate(features)]
            fitted.fit(features[0], y)
        return features[0][:_PROBED]


def _outputs(classifier: Any) -> Any:
    """What gives the logits of a fitted classifier."""
    function = getattr(classifier, "decision_function", None)
    return classifier.predict_proba if function is None else function

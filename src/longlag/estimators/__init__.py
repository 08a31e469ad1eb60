"""Estimators for scikit-learn: what `longlag train` does, with fit and predict.

    model = RecurrentClassifier(random_state=0).fit(X, y)     # X (N, T, C), or ragged, or a frame
    model.predict(X), model.predict_proba(X), model.score(X, y)

An import of this package imports scikit-learn; `import longlag` does not.
"""

from longlag.estimators.classifier import RecurrentClassifier
from longlag.estimators.forecaster import RecurrentForecaster
from longlag.estimators.regressor import RecurrentRegressor

__all__ = ["RecurrentClassifier", "RecurrentForecaster", "RecurrentRegressor"]

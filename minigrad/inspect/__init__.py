"""The batch-norm microscope: layers opened, trainings watched, models examined.

    inspect.trace(bn, x, grad).table()     # every number on the way through a normalization
    inspect.jacobian(bn, x).plot("j.png")  # what every output owes to every input
    inspect.Probe(model, every=10)         # what goes on in the layers while a model trains
    print(inspect.diagnose(model, batch))  # what is wrong with it, and the remedy
    inspect.smoothness(model, loss)        # how far a gradient can be trusted

Nothing here changes a bit of the model, its gradients, its running statistics or the random state.
Plots need matplotlib, the extra ``viz``.
"""

from __future__ import annotations

from minigrad.inspect.doctor import diagnose
from minigrad.inspect.jacobians import Jacobian, jacobian
from minigrad.inspect.landscape import (
    CovariateShift,
    Landscape,
    Range,
    covariate_shift,
    gradient_predictiveness,
    loss_landscape,
    loss_variation,
    smoothness,
)
from minigrad.inspect.norms import NormTrace, trace
from minigrad.inspect.probe import Probe
from minigrad.inspect.records import Records
from minigrad.viz.health import Diagnosis, Finding

__all__ = [
    "CovariateShift",
    "Diagnosis",
    "Finding",
    "Jacobian",
    "Landscape",
    "NormTrace",
    "Probe",
    "Range",
    "Records",
    "covariate_shift",
    "diagnose",
    "gradient_predictiveness",
    "jacobian",
    "loss_landscape",
    "loss_variation",
    "smoothness",
    "trace",
]

"""What deploy/ renders, as a real API server takes it."""

from __future__ import annotations

import pytest
from kubernetes_double import IS_REAL, KubernetesDouble
from kubernetes_double.mirror import Mirror
from rendered_overlays import OVERLAYS, Object, rendered

OLDER = {"policy/v1": "policy/v1beta1", "autoscaling/v2": "autoscaling/v2beta2"}
"""Of a server of 1.20: the same fields, before they were final."""


@pytest.mark.skipif(not IS_REAL, reason="the double knows pods alone")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_server_takes_every_object(double: KubernetesDouble, overlay: str) -> None:
    state = double.state
    assert isinstance(state, Mirror)

    def as_known(found: Object) -> Object:
        return found | {"apiVersion": OLDER.get(found["apiVersion"], found["apiVersion"])}

    own = [as_known(found) for found in rendered(overlay) if not found["apiVersion"].startswith("keda.sh/")]
    for found in own:
        double.do(state.apply(found, really=False))
    assert len(own) >= 5

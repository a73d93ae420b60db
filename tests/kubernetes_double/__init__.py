"""A Kubernetes API server and kubelet for tests: real HTTP, and pods that are processes of this machine."""

from kubernetes_double.control_plane import IS_REAL
from kubernetes_double.double import KubernetesDouble
from kubernetes_double.rights import Rights

__all__ = ["IS_REAL", "KubernetesDouble", "Rights"]

"""Pods: what swarmq reads of them and does with them."""

"""RBAC as far as one account in one namespace has it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

ACCOUNT, TOKEN = "system:serviceaccount:swarmq:worker", "the-token-of-the-worker"


@dataclass
class Rights:
    """Pairs of verb and resource; ``everything`` by default."""

    granted: set[tuple[str, str]] | None = None
    used: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def of(cls, *rules: tuple[str, Iterable[str]]) -> Rights:
        """``("pods", ("create", "get"))`` and so on."""
        return cls({(verb, resource) for resource, verbs in rules for verb in verbs})

    @classmethod
    def from_role(cls, role: dict[str, Any]) -> Rights:
        """A Role as YAML has it."""
        rules = role["rules"]
        return cls({(verb, resource) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]})

    def allow(self, verb: str, resource: str) -> bool:
        self.used.add((verb, resource))
        return self.granted is None or (verb, resource) in self.granted

    def rules(self) -> list[dict[str, Any]]:
        """For a SelfSubjectRulesReview."""
        if self.granted is None:
            return [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
        return [
            {"apiGroups": [""], "resources": [resource], "verbs": [verb]} for verb, resource in sorted(self.granted)
        ]


def denial(verb: str, resource: str, namespace: str) -> str:
    """As the real server words it."""
    kind = resource.partition("/")[0]
    return (
        f'{kind} is forbidden: User "{ACCOUNT}" cannot {verb} resource "{resource}" in API group "" '
        f'in the namespace "{namespace}"'
    )

"""Plans as files: JSON or YAML in, YAML out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarmq.errors import PlanError, UsageError

if TYPE_CHECKING:
    from swarmq.models.plan import Plan

MAX_BYTES = 10_000_000


def read_plan(path: Path, max_subtasks: int | None = None) -> Plan:
    """The plan in a file. UsageError names the file and what is wrong with it."""
    from swarmq.models.plan import Plan

    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"plan file {path}: larger than {MAX_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"plan file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"plan file {path}: not UTF-8 text") from None
    try:
        return Plan.parse(_values(path, text), max_subtasks)
    except PlanError as error:
        raise PlanError(f"plan file {path}: {error}") from None


def _values(path: Path, text: str) -> Any:
    import yaml

    try:
        return yaml.load(text, _strict_loader())  # reads JSON as well
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UsageError(f"plan file {path}: {line}{error.problem or 'not YAML or JSON'}") from None
    except RecursionError:
        raise UsageError(f"plan file {path}: nested too deeply for a plan") from None
    except yaml.YAMLError as error:
        raise UsageError(f"plan file {path}: {' '.join(str(error).split())}") from None


def _strict_loader() -> Any:
    """A safe loader that refuses a second key of the same name, where YAML's would drop the first without a word."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
                if key.value in seen:
                    problem = f"a second {key.value!r} in one mapping"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    return Loader


def plan_as_yaml(plan: Plan, task: str) -> str:
    """A plan for editing and running later. The task stands in a comment: a plan has no field for it."""
    import yaml

    head = "".join(f"# {line}\n" for line in ("A plan of swarmq for the task:", *task.splitlines()))
    values = plan.model_dump(mode="json")
    return head + yaml.dump(values, Dumper=_block_dumper(), sort_keys=False, allow_unicode=True, width=100)


def _block_dumper() -> Any:
    """A dumper that writes texts of several lines as blocks, so that a person can edit them."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return Dumper

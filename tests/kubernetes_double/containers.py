"""What a container of a pod finds: its paths, its command and its environment, as far as a process can have them."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kubernetes_double.state import Json

Objects = Mapping[tuple[str, str], Json]
ENTRYPOINT = "swarmq"
"""Of the images that a manifest gives arguments and no command."""


@dataclass(frozen=True)
class Place:
    claims: Path
    """Where volumes are that outlive pods."""
    directory: Path
    pod: Json
    container: Json

    def _mounts(self) -> dict[str, Path]:
        claimed = {
            volume["name"]: self.claims / volume["persistentVolumeClaim"]["claimName"]
            for volume in self.pod["spec"].get("volumes") or ()
            if "persistentVolumeClaim" in volume
        }
        mounts = {}
        for mount in self.container.get("volumeMounts") or ():
            where = claimed.get(mount["name"], self.directory / mount["name"]) / mount.get("subPath", "")
            where.mkdir(parents=True, exist_ok=True)
            mounts[mount["mountPath"]] = where
        return mounts

    def local(self, text: str) -> str:
        """With the container's paths as they are on this machine; not /tmp, with which other paths begin here."""
        mounts = {path: where for path, where in self._mounts().items() if path != "/tmp"}
        if not mounts:
            return text
        paths = "|".join(re.escape(path) for path in sorted(mounts, key=len, reverse=True))
        return re.sub(rf"(?<![\w/.-])({paths})(?![\w.-])", lambda match: str(mounts[match[1]]), text)

    def words(self, words: Iterable[str]) -> list[str]:
        return [self.local(word) for word in words]

    def command(self) -> list[str]:
        return self.words([*(self.container.get("command") or [ENTRYPOINT]), *(self.container.get("args") or ())])

    def environment(self, image: Mapping[str, str], objects: Objects) -> dict[str, str]:
        env = {name: self.local(value) for name, value in image.items()}
        tmp = self._mounts().get("/tmp")
        if tmp is not None:
            env["TMPDIR"] = str(tmp)
        for source in self.container.get("envFrom") or ():
            env |= _all_of(source, objects)
        for variable in self.container.get("env") or ():
            value = variable.get("value")
            env[variable["name"]] = (
                self._look_up(variable["valueFrom"], objects) if value is None else self.local(value)
            )
        return env

    def _look_up(self, source: Json, objects: Objects) -> str:
        if "secretKeyRef" in source:
            reference = source["secretKeyRef"]
            return _decoded(objects["secrets", reference["name"]])[reference["key"]]
        value = self.pod
        for name in source["fieldRef"]["fieldPath"].split("."):
            value = value[name]
        return str(value)


def _all_of(source: Json, objects: Objects) -> dict[str, str]:
    if "secretRef" in source:
        return _decoded(objects["secrets", source["secretRef"]["name"]])
    return dict(objects["configmaps", source["configMapRef"]["name"]]["data"])


def _decoded(secret: Json) -> dict[str, str]:
    return {name: base64.b64decode(value).decode() for name, value in (secret.get("data") or {}).items()}

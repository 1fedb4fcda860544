"""The pod section: Kubernetes' names, and its rules for tolerations."""

from typing import Any

import pytest

from pilotlight.platform.manifest import Function, ManifestError, parse
from pilotlight.platform.manifest.objects import from_object, to_object


def placed(**pod: Any) -> Function:
    content = {"apiVersion": "pilotlight.dev/v1alpha1", "kind": "Function", "metadata": {"name": "chat"}}
    return parse(content | {"spec": {"model": "s3://models/x", "pod": pod}}, "chat")


def test_it_is_written_as_it_was_read() -> None:
    pod = {"imagePullSecrets": ["registry"], "tolerations": [{"key": "gpu", "operator": "Exists"}], "image": "a/b:1"}

    function = placed(**pod)

    assert function.spec.pod.model_dump(mode="json", exclude_defaults=True) == pod
    assert from_object(to_object(function)) == function


@pytest.mark.parametrize(
    ("field", "toleration"),
    [
        ("operator", {"value": "a"}),
        ("value", {"key": "a", "operator": "Exists", "value": "b"}),
        ("tolerationSeconds", {"key": "a", "tolerationSeconds": 1}),
        ("efect", {"key": "a", "efect": "NoExecute"}),
    ],
)
def test_a_broken_toleration_is_refused_with_its_field(field: str, toleration: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match=rf"spec\.pod\.tolerations\[0\]\.{field}:"):
        placed(tolerations=[toleration])

"""The service holds to its own OpenAPI description: schemathesis writes the requests, right ones and wrong ones."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import positive_data_acceptance

from service.app import create_app
from service.findings import DetectAnswer
from service.openapi import CLIP_TYPES
from service.schemas import ContinueParameters
from service.settings import Settings
from tests.service.conftest import clip, sound_file, tone
from tests.service.fakes import fake_worker
from tests.service.processes import Process, process

CLIPS = [clip(0.6), *(sound_file(tone(0.6), format=format) for format in ("FLAC", "OGG", "MP3"))]

for media_type in CLIP_TYPES:  # a right body of these types is a clip, not any bytes
    schemathesis.openapi.media_type(media_type, st.sampled_from(CLIPS))

LIMITS = {"max_seconds": 2, "max_continuations": 3}
schema = schemathesis.openapi.from_dict(create_app(Settings(**LIMITS), fake_worker()).openapi())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with process({"layers": True}, data_dir=tmp_path_factory.mktemp("data"), **LIMITS) as running:
        yield running


def must_be_accepted(case: schemathesis.Case) -> bool:
    """Whether a case that fits the schema is also right in what no schema can say.

    A file is a clip, a parameter is given in one place only, and only one sound is streamed.
    """
    body = case.body if isinstance(case.body, dict) else {}
    query = case.query if isinstance(case.query, dict) else {}
    given = {**query, **body}
    file = given.get("file", CLIPS[0])
    streams_several = given.get("stream") and given.get("num_continuations", 1) != 1
    return getattr(file, "data", file) in CLIPS and not set(body) & set(query) and not streams_several


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_described(case: schemathesis.Case, server: Process) -> None:
    response = case.call(base_url=f"http://127.0.0.1:{server.port}", timeout=60)
    excluded = [] if must_be_accepted(case) else [positive_data_acceptance]
    case.validate_response(response, excluded_checks=excluded)


def test_every_parameter_has_a_description_and_an_example() -> None:
    operation = create_app(Settings(), fake_worker()).openapi()["paths"]["/continue"]["post"]
    parameters = {parameter["name"]: parameter for parameter in operation["parameters"]}
    assert list(parameters) == list(ContinueParameters.model_fields)
    for parameter in parameters.values():
        assert parameter["description"]
        assert "example" in parameter
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert set(form) == {"file", *parameters}


def test_sample_answers_of_detect_are_answers() -> None:
    """As the page and client libraries read them: by the schema in the description."""
    document = create_app(Settings(), fake_worker()).openapi()
    operation = document["paths"]["/detect"]["post"]
    assert "parameters" not in operation
    content = operation["responses"]["200"]["content"]["application/json"]
    assert content["schema"]["$ref"].endswith("/DetectAnswer")
    verdicts = {DetectAnswer(**example["value"]).verdict for example in content["examples"].values()}
    assert verdicts == {"made_by_this_system", "partly", "no_evidence"}
    schema = document["components"]["schemas"]["DetectAnswer"]
    assert set(schema["properties"]) == set(DetectAnswer.model_fields)
    assert "human" not in json.dumps(operation).lower()


def test_the_description_states_the_limits_of_this_deployment() -> None:
    app = create_app(Settings(max_seconds=3, max_continuations=2), fake_worker())
    operation = app.openapi()["paths"]["/continue"]["post"]
    limits = {parameter["name"]: parameter["schema"].get("maximum") for parameter in operation["parameters"]}
    assert limits["seconds"] == 3
    assert limits["num_continuations"] == 2

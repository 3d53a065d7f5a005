"""What nobody should send, drawn from the server's own description of itself.

IGPT_FUZZ_CASES=10000 pytest -m slow tests/serve/test_fuzz.py
"""

import contextlib
import math
import os
from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.serve.serving import running

from igpt.serve.models import Models

CASES = int(os.environ.get("IGPT_FUZZ_CASES", "300"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def fuzz(folders, cases):
    """Send so many requests, most of them to models that are there, and check every answer.

    Returns:
        How many answers had which status.
    """
    with running(Models(folders, device="cpu")) as client:
        schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
        strategies = [
            one.ok().as_strategy(generation_mode=mode)
            for one in schema.get_all_operations()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        ]
        answers = Counter[int]()
        # Some have little that could be sent, so that the others get more in the next round.
        while (left := cases - answers.total()) > 0:
            for number, strategy in enumerate(strategies):

                @seed(left + number)
                @settings(
                    max_examples=math.ceil(left / len(strategies)), database=None, deadline=None,
                    phases=[Phase.generate], suppress_health_check=[*HealthCheck],
                )  # fmt: skip
                @given(case=strategy)
                def send(case):
                    sent = answers.total()
                    if sent % 5 and "name" in case.path_parameters:
                        case.path_parameters["name"] = "a" if sent % 2 else "bert"
                    if sent % 3 and isinstance(case.body, dict) and "tokens" in case.body:
                        case.body["tokens"] = [sent % 16] * 16  # or nothing else of it is looked at
                    answer = case.call_and_validate(checks=CHECKS, timeout=60)
                    answers[answer.status_code] += 1

                with contextlib.suppress(Unsatisfiable):  # where nothing is sent, nothing is wrong
                    send()
        assert client.get("/api/models").status_code == 200
        return answers


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of its own libraries
def test_whatever_is_sent_gets_an_answer_as_described_and_never_a_fault(folders):
    answers = fuzz(folders, CASES)
    assert answers.total() >= CASES
    assert {200, 404, 422} <= {*answers}

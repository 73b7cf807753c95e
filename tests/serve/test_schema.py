"""The OpenAPI document and the server say the same, whatever is sent."""

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy
from running import STAFF, Running
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS

NAMES = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "negative_data_rejection",
)  # fmt: skip


def tried(server: Running, cases: SearchStrategy[Case]) -> set[int]:
    """The statuses that these cases get, each answer checked against the document."""
    statuses = set()
    checks = [CHECKS.get_one(name) for name in NAMES]

    @given(case=cases)
    @settings(max_examples=40, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    def ask(case: Case) -> None:
        response = case.call(base_url=server.url, headers={"Authorization": f"Bearer {STAFF}"}, timeout=60)
        case.validate_response(response, checks=checks)
        statuses.add(response.status_code)

    ask()
    return statuses


def test_schemathesis(server: Running) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = {operation.ok().path: operation.ok() for operation in schema.get_all_operations()}
    answers = {"/v1/chat/completions", "/v1/completions", "/v1/responses"}
    assert answers | {"/v1/models", "/v1/policy", "/metrics"} <= set(operations)
    for path, operation in operations.items():
        statuses = tried(server, operation.as_strategy())
        if path in answers:
            statuses |= tried(server, operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
            assert statuses <= {200, 400, 403, 404}
            assert 400 in statuses
        else:
            assert statuses <= {200, 400 if path == "/v1/policy/try" else 404}
    assert httpx.get(f"{server.url}/readyz").status_code == 200

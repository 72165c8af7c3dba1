"""What holds for every route: pages, entity tags, errors, names, health."""

from __future__ import annotations

import httpx
import pytest

from tests.reference_runs import Shell


def test_head_is_get_without_the_body(rest: httpx.Client) -> None:
    """The same headers, no body."""
    head, get = rest.head("/v1/runs/w0"), rest.get("/v1/runs/w0")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == get.headers["etag"]
    assert head.headers["content-length"] == str(len(get.content))


def test_what_has_not_changed_is_not_sent_again(rest: httpx.Client) -> None:
    """A known entity tag gets 304 and no body."""
    first = rest.get("/v1/runs/w0/evolution")
    again = rest.get("/v1/runs/w0/evolution", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert rest.get("/v1/runs/w0/evolution", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/runs/nobody", 404, "not-found"),
        ("/v1/runs/w0/snapshots/7", 404, "not-found"),
        ("/v1/nowhere", 404, "not-found"),
        ("/v1/runs?limit=0", 422, "invalid-input"),
        ("/v1/runs?limit=100000", 422, "invalid-input"),
        ("/v1/runs?cursor=%ff", 422, "invalid-input"),
        ("/v1/runs/w0/snapshots?cursor=eA", 422, "invalid-input"),
        ("/v1/distances?a=w0", 422, "invalid-input"),
        ("/v1/distances?a=w0&b=w1&alignment=none", 422, "invalid-input"),
        ("/v1/runs/w0/connections?layer=l9&status=born", 404, "not-found"),
        ("/v1/lineage/inferred?refs=w0", 422, "invalid-input"),
        ("/v1/distances/matrix", 422, "invalid-input"),
        ("/v1/distances/matrix?refs=x*@last", 422, "invalid-ref"),
        ("/v1/distances/matrix?refs=w0&nearest=0", 422, "invalid-input"),
        ("/v1/distances?a=w0@x&b=w1&alignment=identity", 422, "invalid-input"),
        ("/v1/runs/w0/evolution?from=50&to=0", 422, "invalid-input"),
    ],
)
def test_errors_are_problem_documents(rest: httpx.Client, path: str, status: int, code: str) -> None:
    """Each error has its status, our stable code and a sentence, and nothing of the server's insides."""
    answer = rest.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert answer.json()["status"] == status
    assert answer.json()["detail"]
    assert "Error" not in answer.text
    assert "/site-packages" not in answer.text


def test_a_method_that_is_not_there_is_a_problem_too(rest: httpx.Client) -> None:
    """405 with the methods that are."""
    answer = rest.delete("/v1/runs")
    assert answer.status_code == 405
    assert answer.json()["code"] == "method-not-allowed"
    assert "GET" in answer.headers["allow"]


def test_only_names_of_this_machine_are_answered(rest: httpx.Client) -> None:
    """A page elsewhere that points its own name at this server gets nothing (DNS rebinding)."""
    answer = rest.get("/v1/runs", headers={"Host": "elsewhere.example"})
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown-host")
    assert rest.get("/v1/runs", headers={"Host": "localhost:1"}).status_code == 200
    assert rest.get("/v1/runs", headers={"Host": "[::1]:8321"}).status_code == 200


def test_health_and_readiness(rest: httpx.Client) -> None:
    """`/healthz` depends on nothing, `/readyz` says each part."""
    assert rest.get("/healthz").json() == {"status": "ok"}
    assert rest.get("/readyz").json() == {"status": "ok", "archive": "ok"}


def test_serving_beyond_loopback_is_refused(shell: Shell) -> None:
    """Without tokens the API is for this machine alone."""
    assert "expected a loopback address" in shell.fails("serve", "--host", "0.0.0.0", code=2)


def test_a_text_that_is_no_ref_is_refused_in_words(rest: httpx.Client) -> None:
    """The answer says what a ref looks like, not the pattern that this one does not fit."""
    answer = rest.get("/v1/distances?a=w0@x&b=w1")
    assert answer.json()["detail"] == "query/a: expected run, run@STEP, run@first or run@last, found 'w0@x'"

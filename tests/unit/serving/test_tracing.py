"""A trace crosses services: its id is continued, passed on, and stands in every log line."""

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, format_span_id, format_trace_id

from winnow.serving.opentelemetry import OpenTelemetrySpans
from winnow.serving.tracing import Spans, add_trace_id, calling, outgoing_metadata, serving

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


def test_the_callers_trace_id_is_continued_logged_and_passed_on() -> None:
    with serving(Spans(), "RecommendItems", [("other", "x"), ("traceparent", TRACEPARENT)]):
        assert add_trace_id(None, "", {"event": "x"}) == {"event": "x", "trace_id": TRACE_ID}
        ((key, value),) = outgoing_metadata()
    assert key == "traceparent"
    assert value.startswith(f"00-{TRACE_ID}-")
    assert value != TRACEPARENT, "the next service has another parent"


def test_a_call_without_a_trace_begins_one() -> None:
    for metadata in ([], [("traceparent", "nonsense")], [("traceparent", b"\xff")]):
        with serving(Spans(), "RecommendItems", metadata):
            trace_id = add_trace_id(None, "", {})["trace_id"]
        assert len(trace_id) == 32
        assert trace_id != TRACE_ID


def test_spans_of_two_services_hang_together() -> None:
    exporter = InMemorySpanExporter()
    gateway = OpenTelemetrySpans("gateway", SimpleSpanProcessor(exporter))
    stage = OpenTelemetrySpans("candidate_service", SimpleSpanProcessor(exporter))
    with serving(gateway, "RecommendItems", [("traceparent", TRACEPARENT)]), calling("candidate"):
        metadata = outgoing_metadata()
    with serving(stage, "RetrieveCandidates", metadata):
        assert add_trace_id(None, "", {})["trace_id"] == TRACE_ID

    call, request, retrieve = exporter.get_finished_spans()
    assert [span.name for span in (request, call, retrieve)] == ["RecommendItems", "candidate", "RetrieveCandidates"]
    assert [span.kind for span in (request, call, retrieve)] == [SpanKind.SERVER, SpanKind.CLIENT, SpanKind.SERVER]
    assert request.parent is not None
    assert format_span_id(request.parent.span_id) == "b7ad6b7169203331"
    assert call.parent is not None
    assert retrieve.parent is not None
    assert request.context is not None
    assert call.context is not None
    assert call.parent.span_id == request.context.span_id
    assert retrieve.parent.span_id == call.context.span_id
    assert {format_trace_id(span.context.trace_id) for span in (request, call, retrieve) if span.context} == {TRACE_ID}

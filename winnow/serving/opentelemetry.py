"""Spans for OpenTelemetry: needs the optional extra `tracing`; where they go is set by the usual OTEL_* variables."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from winnow.serving.tracing import TRACEPARENT, Metadata, Spans


class OpenTelemetrySpans(Spans):
    """Records a span for every call served and every call to a stage."""

    def __init__(self, service: str, processor: SpanProcessor | None = None) -> None:
        """Export in batches to the OTLP endpoint of the environment, or through the given processor."""
        self._provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("winnow")
        self._propagator = TraceContextTextMapPropagator()

    def serving(self, method: str, metadata: Metadata) -> AbstractContextManager[None]:
        """See Spans.serving."""
        carrier = {key: value for key, value in metadata if key == TRACEPARENT and isinstance(value, str)}
        return self._span(method, SpanKind.SERVER, {}, self._propagator.extract(carrier))

    def calling(self, name: str, attributes: Mapping[str, int | str]) -> AbstractContextManager[None]:
        """See Spans.calling."""
        return self._span(name, SpanKind.CLIENT, attributes, None)

    def trace_id(self) -> str:
        """See Spans.trace_id."""
        return trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """See Spans.metadata."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return tuple(carrier.items())

    @contextmanager
    def _span(
        self, name: str, kind: SpanKind, attributes: Mapping[str, int | str], context: Context | None
    ) -> Iterator[None]:
        # Texts of exceptions stay in the log: more people may read traces.
        with self._tracer.start_as_current_span(
            name, context=context, kind=kind, attributes=dict(attributes), record_exception=False
        ):
            yield

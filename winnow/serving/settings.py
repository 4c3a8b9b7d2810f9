"""Settings that the services have in common. Each comes from a flag, else from the environment, else from its default.

The text below each field is its documentation: `--help` prints it and docs/operations.md repeats it.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict

from winnow.serving.logs import LogFormat, LogLevel

Port = Annotated[int, Field(ge=0, le=65535)]
MessageBytes = Annotated[int, Field(ge=1024, le=1 << 30)]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveSeconds = Annotated[float, Field(gt=0, le=3600)]

SETTINGS_CONFIG = SettingsConfigDict(
    frozen=True,
    use_attribute_docstrings=True,
    cli_kebab_case=True,
    cli_implicit_flags=True,
    cli_avoid_json=True,
    env_ignore_empty=True,
)


class ServerSettings(BaseSettings):
    """Settings of all three services."""

    model_config = SETTINGS_CONFIG

    releases: Path = Path("releases")
    """Directory of releases. The one that its CURRENT file names is served."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 or [::] for all."""
    port: Port = 0
    """Port to listen on. 0 lets the system choose one, which the log names."""
    transport: Literal["grpc", "native"] = "grpc"
    """`grpc` for gRPC's own server; `native` (extra `native`) takes less CPU time and has no TLS."""
    reflection: bool = True
    """Offer gRPC server reflection, so that tools such as grpcurl can list and call methods."""
    max_message_bytes: MessageBytes = 16 * 1024 * 1024
    """Largest message between the services, in bytes."""
    max_request_bytes: MessageBytes = 4 * 1024 * 1024
    """Largest request that is taken, in bytes, inflated. Each MiB holds the event loop for a few milliseconds."""
    max_calls_in_flight: PositiveInt = 1024
    """Most calls in flight; further ones are rejected unread with RESOURCE_EXHAUSTED. Health checks are not counted."""
    max_calls_per_connection: PositiveInt = 256
    """Most calls in flight on one connection; further ones wait at the caller."""
    default_timeout_seconds: PositiveSeconds = 1.0
    """Deadline of a call that comes without one."""
    max_timeout_seconds: PositiveSeconds = 10.0
    """Longest deadline. A call with a longer one is treated as if it had this one."""
    max_connection_age_seconds: PositiveSeconds = 120.0
    """Age at which clients are asked to reconnect, so that they find new replicas."""
    drain_seconds: Annotated[float, Field(ge=0, le=600)] = 1.0
    """How long to keep serving after SIGTERM with health NOT_SERVING, so that clients can go elsewhere."""
    stop_grace_seconds: Annotated[float, Field(ge=0, le=600)] = 10.0
    """How long calls in flight may take to end after draining."""
    release_poll_seconds: PositiveSeconds = 1.0
    """How often to check whether CURRENT names another release. SIGHUP checks at once."""
    release_retire_seconds: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """How long a release that is no longer current is kept after its last use."""
    metrics_port: Port = 0
    """Port of the Prometheus metrics on the same host; 0 turns them off."""
    tracing: bool = False
    """Record OpenTelemetry spans (extra `tracing`). The usual OTEL_* variables say where they go."""
    tls_certificate_file: Path | None = None
    """PEM certificate chain of the server; TLS is on if set. Read again when it changes."""
    tls_key_file: Path | None = None
    """PEM private key of the certificate."""
    tls_client_ca_file: Path | None = None
    """PEM certificates of the authorities that must have signed callers' certificates (mutual TLS)."""
    tls_client_names: str = "*"
    """With mutual TLS, names that callers' certificates may have, separated by commas; `*` for any that is signed."""
    log_format: LogFormat = "human"
    """`human` for aligned text, `json` for one JSON object per line."""
    log_level: LogLevel = "info"
    """Least severe level to log."""

    @property
    def shares_port(self) -> bool:
        """Whether other processes of the same service listen on the port too."""
        return False

    @property
    def takes_compressed_requests(self) -> bool:
        """Whether callers may compress their requests: they are inflated on the event loop."""
        return True

    @property
    def max_framing_bytes(self) -> int:
        """Most bytes of tags, lengths and numbers in a large request. Stage calls carry few fields, but large ones."""
        return 10_000

    @property
    def allowed_client_names(self) -> frozenset[str]:
        """The names of `tls_client_names`; empty where every caller is taken."""
        names = frozenset(name.strip() for name in self.tls_client_names.split(","))
        return frozenset() if self.tls_client_ca_file is None or "*" in names else names

    @classmethod
    def from_command_line(cls, arguments: list[str]) -> Self:
        """Read flags and environment. Where a setting is invalid, exit with a message that names it."""
        try:
            return CliApp.run(cls, cli_args=arguments)
        except ValidationError as error:
            prefix = cls.model_config.get("env_prefix", "")
            lines = []
            for problem in error.errors(include_url=False):
                if not problem["loc"]:
                    # Of several settings together; the text names them.
                    lines.append(problem["msg"].removeprefix("Value error, "))
                    continue
                name = str(problem["loc"][0])
                given = "" if problem["type"] == "missing" else f" (given: {problem['input']!r})"
                lines.append(f"--{name.replace('_', '-')} or {prefix}{name.upper()}: {problem['msg']}{given}")
            raise SystemExit("\n".join(lines)) from None


class StageSettings(ServerSettings):
    """Settings of both stages."""

    max_request_bytes: MessageBytes = 5 * 1024 * 1024
    """Largest request that is taken, in bytes. Each MiB holds the event loop for a few milliseconds."""
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:[0-9]+)?)$")] = "cpu"
    """Where the network runs: `cpu`, `cuda`, or one GPU of several, `cuda:1`."""
    torch_threads: PositiveInt = 1
    """Threads per computation on the CPU. One is best where several processes share the cores."""
    max_batch_queries: PositiveInt = 256
    """Most queries computed at once, and the most that one call may carry."""
    max_queued_queries: PositiveInt = 2048
    """Most queries that may wait for the device; further calls are rejected with RESOURCE_EXHAUSTED."""
    stuck_seconds: PositiveSeconds = 30.0
    """A computation that takes longer than this fails the liveness check."""
    tls_client_names: str = "winnow-gateway"
    """With mutual TLS, names that callers' certificates may have, separated by commas; `*` for any that is signed."""

    @property
    def takes_compressed_requests(self) -> bool:
        """See ServerSettings.takes_compressed_requests: gateways do not compress."""
        return False

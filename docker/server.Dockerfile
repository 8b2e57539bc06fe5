# The feature store's server, `featureline serve`. Build from the repository root.
FROM python:3.11-slim AS build
# Clients of the shared engines, sealed records, and "fast", the native front.
ARG EXTRAS=fast,redis,encryption,postgres,s3
RUN python -m venv /opt/featureline
ENV PATH=/opt/featureline/bin:$PATH
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY lineage lineage
COPY featurestore featurestore
COPY ingest ingest
COPY training training
COPY featureline featureline
RUN --mount=type=cache,target=/root/.cache/pip pip install ".[${EXTRAS}]"

FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin featureline \
    && install --directory --owner=featureline --group=featureline /data
COPY --from=build /opt/featureline /opt/featureline
# FEATURELINE_HOME makes `docker compose exec server featureline …` work on the served folder.
ENV PATH=/opt/featureline/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FEATURELINE_HOME=/data
USER featureline
WORKDIR /data
VOLUME ["/data"]
EXPOSE 50051
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import grpc; from grpc_health.v1 import health_pb2, health_pb2_grpc; channel = grpc.insecure_channel('127.0.0.1:50051'); reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=3); raise SystemExit(reply.status != health_pb2.HealthCheckResponse.SERVING)"]
ENTRYPOINT ["featureline", "serve"]
CMD ["--home", "/data", "--grpc", "0.0.0.0:50051"]

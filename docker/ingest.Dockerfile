# A Kafka consumer that writes into a running server, `featureline ingest kafka`. Build from the
# repository root. Several containers in one consumer group share a topic's partitions.
FROM python:3.11-slim AS build
RUN python -m venv /opt/featureline
ENV PATH=/opt/featureline/bin:$PATH
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY lineage lineage
COPY featurestore featurestore
COPY ingest ingest
COPY training training
COPY featureline featureline
RUN --mount=type=cache,target=/root/.cache/pip pip install .

FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin featureline \
    && install --directory --owner=featureline --group=featureline /data
COPY --from=build /opt/featureline /opt/featureline
ENV PATH=/opt/featureline/bin:$PATH \
    PYTHONUNBUFFERED=1
USER featureline
# The default home, ./.featureline, lies here, so whatever is kept locally is in the volume.
WORKDIR /data
VOLUME ["/data"]
ENTRYPOINT ["featureline", "ingest", "kafka"]
CMD ["--help"]

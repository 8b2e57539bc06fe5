# One training job on the CPU, `featureline train`. Build from the repository root.
FROM python:3.11-slim AS build
RUN python -m venv /opt/featureline
ENV PATH=/opt/featureline/bin:$PATH
# The default index serves torch with the CUDA libraries; name an index of CPU builds to leave them
# out: docker build --build-arg TORCH_INDEX=URL. First, so that a change of the code does not fetch
# it again.
ARG TORCH_INDEX=""
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.6,<3"
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY lineage lineage
COPY featurestore featurestore
COPY ingest ingest
COPY training training
COPY featureline featureline
# XGBoost loads NCCL only for several GPUs; left out, the image is hundreds of megabytes smaller.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install ".[training,redis]" && pip uninstall --yes nvidia-nccl-cu12

FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin featureline \
    && install --directory --owner=featureline --group=featureline /data
COPY --from=build /opt/featureline /opt/featureline
ENV PATH=/opt/featureline/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FEATURELINE_HOME=/data
USER featureline
WORKDIR /data
VOLUME ["/data"]
ENTRYPOINT ["featureline", "train"]
CMD ["--help"]

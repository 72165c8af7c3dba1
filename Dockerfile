# The REST service of docker-compose.yml, for a Neo4j server: docs/deployment.md. To pin the base further than by its
# version: docker build --build-arg BASE=python:3.12.13-slim-bookworm@sha256:... .
ARG BASE=python:3.12.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
RUN mkdir -m 0700 /spool && python -m venv /tools && python -m venv --without-pip /opt/topostrata
COPY docker/build.txt docker/requirements.txt docker/
# The embedded engine stays out, and with it a Java runtime: here is a Neo4j server.
RUN --mount=type=cache,target=/root/.cache/pip \
    /tools/bin/pip install --require-hashes -r docker/build.txt \
    && /tools/bin/pip --python /opt/topostrata/bin/python install --require-hashes --only-binary :all: \
        -r docker/requirements.txt
COPY . .
RUN /tools/bin/pip wheel --no-build-isolation --no-deps --wheel-dir dist . \
    && /tools/bin/pip --python /opt/topostrata/bin/python install --no-index --no-deps --find-links dist topostrata \
    && /opt/topostrata/bin/python -c "import topostrata.service.api.app"

FROM ${BASE}
COPY --from=build /opt/topostrata /opt/topostrata
COPY --chmod=0444 docker/forward.py /opt/forward.py
# Where compose mounts a volume for results on their way to the archive; it takes its owner from here.
COPY --from=build --chown=10001:10001 /spool /spool
# Numba compiles the distances once per machine and keeps them here: the one place that has to be writable.
ENV PATH=/opt/topostrata/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/tmp/numba
USER 10001:10001
EXPOSE 8321
ENTRYPOINT ["topostrata"]
CMD ["serve", "--host", "0.0.0.0"]

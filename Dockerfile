# One small image for the web app, the internal API, the heartbeat and the migration, by command; docs/containers.md.
#
#   docker build .                      the app
#   docker build --target offline .     the offline provider, for compose.yml only
#
# Python is that of the tests. Pinned by version only: the digest could not be looked up where this was written.
FROM python:3.11.14-slim-bookworm AS base
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /app
# The database's certificate is checked with the first. A new volume at /data belongs to the user.
RUN test -s /etc/ssl/certs/ca-certificates.crt \
  && useradd --uid 10001 --home-dir /tmp --no-create-home sluice \
  && install --directory --owner=sluice --group=sluice --mode=0700 /data


FROM base AS packages
COPY requirements/app.txt requirements/azure.txt requirements/
RUN python -m venv --without-pip /venv \
  && pip --python /venv/bin/python install --no-cache-dir --require-hashes \
    --requirement requirements/app.txt --requirement requirements/azure.txt


FROM base AS offline-packages
COPY requirements/app.txt requirements/offline.txt requirements/
RUN python -m venv --without-pip /venv \
  && pip --python /venv/bin/python install --no-cache-dir --require-hashes \
    --requirement requirements/app.txt --requirement requirements/offline.txt


FROM base AS offline
COPY --from=offline-packages /venv /venv
COPY deploy/healthcheck.py deploy/
COPY offline_provider offline_provider
RUN python -m compileall -q .
USER 10001:10001
ENV OFFLINE_BIND=0.0.0.0:8088 OFFLINE_DATA_DIR=/data
EXPOSE 8088
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s \
  CMD ["python", "deploy/healthcheck.py", "http://127.0.0.1:8088/healthz"]
CMD ["python", "-m", "offline_provider"]


# The last one is what `docker build` makes when nothing else is asked for.
FROM base AS app
COPY --from=packages /venv /venv
COPY deploy/healthcheck.py deploy/roles.py deploy/
COPY migrations migrations
COPY profiles profiles
COPY prices.json wsgi.py ./
COPY webapp webapp
RUN python -m compileall -q .
USER 10001:10001
# One process; what waits for the database or the provider waits in threads. More processes: WEB_CONCURRENCY,
# and then --reuse-port, so that the kernel shares the connections out. The workers' heartbeat files belong in memory: on a
# slow disk they can stall a worker.
ENV GUNICORN_CMD_ARGS="--worker-class=gthread --threads=16 --graceful-timeout=50 --worker-tmp-dir=/dev/shm --no-control-socket --log-level=warning"
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s \
  CMD ["python", "deploy/healthcheck.py", "http://127.0.0.1:8000/healthz"]
CMD ["gunicorn", "--bind=0.0.0.0:8000", "wsgi:app"]

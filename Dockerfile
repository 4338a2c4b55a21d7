# The Python of the tests and of the lock files.
FROM python:3.11-slim AS build
RUN python -m venv --without-pip /venv
COPY requirements/run.txt /tmp/run.txt
RUN python -m pip --python /venv/bin/python install --no-cache-dir --disable-pip-version-check \
      --require-hashes --no-deps --only-binary :all: -r /tmp/run.txt
COPY app /srv/app
RUN python -m compileall -q /srv/app

FROM python:3.11-slim
LABEL org.opencontainers.image.title="Tributary" \
      org.opencontainers.image.description="Many upstream calls, one answer, every missing part explained"
ENV HOST=0.0.0.0 PORT=8000 PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /venv /venv
COPY --from=build /srv /srv
WORKDIR /srv
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 8000
# Where it listens, 0.0.0.0 and :: included, and past any proxy of the environment.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection(os.environ['HOST'], int(os.environ['PORT']), timeout=2); c.request('GET', '/livez'); exit(c.getresponse().status != 200)"]
CMD ["python", "-m", "app"]

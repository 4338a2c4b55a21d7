"""Settings with which nothing must start, by the variable that the error begins with."""

SECRET = "do not print me"  # invalid in every variable, because of its spaces

INVALID = {
    "PORT": ["many", "-1", "65536", "80.5"],
    "LOG_LEVEL": ["loud", "7"],
    "LOG_FORMAT": ["xml", "text"],
    "UPSTREAM_URL": [
        *("a.test:80", "ftp://a.test", "http://", "http:///path", "//a.test", "http://a.test:0"),
        *("http://a..test", f"http://{'a' * 64}.test", "http://a%zz", "http://-a.test"),
        *("http://a.test:99999", "http://[::1", "http://a.test/?key=1", "http://a.test/#top"),
        *(
            "http://a b.test",
            "http://\u00e5.test",
            "http://a.test\\x",
            f"http://me:{SECRET}@a.test",
        ),
    ],
    "UPSTREAMS__USERS__URLS": ["nonsense", "http://a.test, nonsense", "http://me@a.test"],
    "UPSTREAMS__TODOS__MAX_BODY": ["0", "1073741825", "1.5"],
    "UPSTREAMS__POSTS__MAX_BODY": ["-1", "1e6", "one"],
    "UPSTREAMS__TODOS__ATTEMPT_TIMEOUT": ["0.0", "-0.5", "800ms"],
    "UPSTREAMS__USERS__CONCURRENCY": ["0", "64.5", "many"],
    "UPSTREAMS__POSTS__URLS": ["http://", "a.test", "http://a.test;http://b.test"],
    "UPSTREAMS__POSTS__ATTEMPT_TIMEOUT": ["0", "-1", "nan", "inf", "soon"],
    "UPSTREAMS__TODOS__CONCURRENCY": ["0", "-1", "1.5", "all"],
    "UPSTREAMS__USERS__TTL": ["-1", "nan", "inf"],
    "UPSTREAMS__USERS__MAX_BODY": ["0", "1MB"],
    "UPSTREAMS__USERS__RETRIES": ["-1", "11", "1.5", "some"],
    "UPSTREAMS__POSTS__RETRY_BUDGET": ["-0.1", "1.1", "nan", "20%"],
    "UPSTREAMS__TODOS__HEDGE": ["on", "-1", "nan", "inf", "10ms", "auto,0.1", "[]"],
    "UPSTREAMS__USERS__STALE_WHILE_REVALIDATE": ["-1", "nan", "inf", "long"],
    "UPSTREAMS__POSTS__STALE_IF_ERROR": ["-1", "nan", "inf", "1h"],
    "UPSTREAMS__POSTS__HEADERS": [
        *("{", "[]", "7", '{"X-Key": 7}', '{"X-Key": null}', '{"X-Key": ""}'),
        *(f'{{"X-Key": "{value}"}}' for value in (f" {SECRET}", f"{SECRET}\\r\\nX: 1", "\u00e5")),
        *(f'{{"{name}": "{SECRET}"}}' for name in ("a b", "", "Host", "x-request-id", "a:")),
    ],
    "UPSTREAMS": ["{", "7"],
    "REQUEST_TIMEOUT": ["0", "nan", "10.5", "-1", "2s", "inf"],
    "REQUEST_TIMEOUT_MAX": ["0", "soon"],
    "FAN_OUT": ["0", "many", "-1", "1e3"],
    "BATCH_MAX": ["0", "all", "-5", "2.5"],
    "CONNECTIONS": ["0", "-1", "unlimited"],
    "ANSWER_MAX": ["0", "64MiB", "1099511627777"],
    "ROOT_PATH": ["api", "/api/", "/", "//a", "/a b", "http://a.test/api"],
    "DRAIN_SECONDS": ["-1", "nan", "inf", "5s"],
    "EXPLAIN": ["yes", "1", "true"],
    "FORWARD_HEADERS": [
        *("a b", "authorization, host", "Content-Length", "x-request-timeout-ms", "x:y"),
        *("If-None-Match", "if-modified-since", "Range", "If-Range", "accept", "Accept-Encoding"),
        *("Cache-Control", "x-a,pragma", "Content-Type", "x-request-id", "traceparent"),
        *("connection", "Proxy-Connection", "Keep-Alive", "TE", "Transfer-Encoding", "Upgrade"),
        *("TraceState", "trailer"),
    ],
    "DEMO_LATENCY": ["-0.1", "fast", "inf"],
}

NOT_YET = {
    "API_KEYS": ["ada:secret", "x"],
    "API_KEYS_FILE": ["/run/secrets/keys"],
    "RATE_LIMIT": ["1/minute"],
    "TRUSTED_PROXIES": ["10.0.0.0/8", "*"],
    "CORS_ORIGINS": ["*", "https://app.test"],
    "ALLOWED_HOSTS": ["api.test"],
    "REDIS_URL": ["redis://localhost"],
    "WORKERS": ["4"],
    "ADMIN_PORT": ["9000"],
    "VIEWS": ["shop.product"],
    "UPSTREAMS__USERS__FORWARD": ["authorization"],
    "UPSTREAMS__TODOS__FORWARD": ["x-a"],
    "OTEL_EXPORTER_OTLP_ENDPOINT": ["http://collector:4318"],
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": ["http://collector:4318/v1/traces"],
    "api_keys": ["x"],
}

UNKNOWN = {
    "UPSTREAMS__USER__URLS": "UPSTREAMS__USERS__URLS",
    "UPSTREAMS__POST__MAX_BODY": "UPSTREAMS__POSTS__MAX_BODY",
    "UPSTREAMS__TODO__TTL": "UPSTREAMS__TODOS__TTL",
    "UPSTREAMS__USERS__URL": "UPSTREAMS__USERS__URLS",
    "UPSTREAMS__USERS__ATEMPT_TIMEOUT": "UPSTREAMS__USERS__ATTEMPT_TIMEOUT",
    "UPSTREAMS__USERS__CONCURENCY": "UPSTREAMS__USERS__CONCURRENCY",
    "UPSTREAMS__TODOS__RETRY": "UPSTREAMS__TODOS__RETRIES",
    "UPSTREAMS__POSTS__RETRYBUDGET": "UPSTREAMS__POSTS__RETRY_BUDGET",
    "UPSTREAMS__POSTS__HEDGES": "UPSTREAMS__POSTS__HEDGE",
    "UPSTREAMS__POSTS__STALE_IF_EROR": "UPSTREAMS__POSTS__STALE_IF_ERROR",
    "UPSTREAMS__POSTS__STALE_WHILE_REVALIDATION": "UPSTREAMS__POSTS__STALE_WHILE_REVALIDATE",
    "UPSTREAMS__USERS__HEADER": "UPSTREAMS__USERS__HEADERS",
    "UPSTREAMS__USERS__HEADERS__AUTHORIZATION": "UPSTREAMS__USERS__HEADERS",
    "UPSTREAMS__USERS__CA_FILES": "UPSTREAMS__USERS__CA_FILE",
    "UPSTREAMS__USERS__CERTFILE": "UPSTREAMS__USERS__CERT_FILE",
    "UPSTREAMS__TODOS__KEYFILE": "UPSTREAMS__TODOS__KEY_FILE",
    "UPSTREAMS__USERS_TTL": "UPSTREAMS__USERS__TTL",
    "UPSTREAMS__USERS__": "UPSTREAMS__USERS",
    "UPSTREAMS__USER": "UPSTREAMS__USERS",
    "upstreams__todos__maxbody": "UPSTREAMS__TODOS__MAX_BODY",
}
"""Each with the nearest setting."""

IN_JSON = {
    "UPSTREAMS__USERS__TLL": ("UPSTREAMS__USERS", '{"tll": 1}'),
    "UPSTREAMS__POSTS__URL": ("UPSTREAMS", '{"posts": {"url": "http://a.test"}}'),
    "UPSTREAMS__POST": ("UPSTREAMS", '{"post": {}}'),
    "UPSTREAMS__USERS__TTL": ("UPSTREAMS__USERS", '{"ttl": "long"}'),
    "UPSTREAMS__TODOS__URLS": ("UPSTREAMS__TODOS", '{"urls": ["nonsense"]}'),
    "UPSTREAMS__TODOS__FORWARD": ("UPSTREAMS__TODOS", '{"forward": "authorization"}'),
    "UPSTREAMS__TODOS": ("UPSTREAMS__TODOS", "http://a.test"),
    "UPSTREAMS__POSTS": ("UPSTREAMS__POSTS", "{"),
    "UPSTREAMS__USERS": ("UPSTREAMS__USERS", "[]"),
}
"""Each with the variable that has it in its JSON."""

WRONG = [
    *((name, name, value) for name, values in INVALID.items() for value in values),
    *((name, name, value) for name, values in NOT_YET.items() for value in values),
    *((name, name, SECRET) for name in UNKNOWN),
    *((name, variable, value) for name, (variable, value) in IN_JSON.items()),
]
"""The name in the error, the variable, and its value."""

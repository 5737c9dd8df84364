CREATE TABLE onlyonce_access_log (
    id          BLOB    NOT NULL PRIMARY KEY,
    trace_id    TEXT    NOT NULL,
    module      TEXT    NOT NULL,
    method      TEXT    NOT NULL,
    scheme      TEXT    NOT NULL,
    host        TEXT    NOT NULL,
    path        TEXT    NOT NULL,
    query       TEXT    NOT NULL,
    headers     TEXT    NOT NULL, -- JSON: [["name", "value"], …]
    body        TEXT    NOT NULL,
    ip          TEXT,
    user_id     TEXT,
    code        INTEGER,
    message     TEXT    NOT NULL,
    stack       TEXT    NOT NULL, -- JSON: ["line", …]
    status      INTEGER NOT NULL,
    user_agent  TEXT    NOT NULL,
    duration_ms INTEGER NOT NULL,
    ending      TEXT    NOT NULL,
    responded   INTEGER NOT NULL, -- milliseconds since 1970
    created     INTEGER NOT NULL, -- milliseconds since 1970
    outcome     TEXT,
    key_hash    TEXT
) STRICT;

-- Each filter of a listing, newest first. Identifiers are in the order of time.
CREATE INDEX onlyonce_access_log_trace_id ON onlyonce_access_log (trace_id, id);
CREATE INDEX onlyonce_access_log_module ON onlyonce_access_log (module, id);
CREATE INDEX onlyonce_access_log_method ON onlyonce_access_log (method, id);
CREATE INDEX onlyonce_access_log_path ON onlyonce_access_log (path, id);
CREATE INDEX onlyonce_access_log_ip ON onlyonce_access_log (ip, id) WHERE ip IS NOT NULL;
CREATE INDEX onlyonce_access_log_user_id ON onlyonce_access_log (user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX onlyonce_access_log_code ON onlyonce_access_log (code, id) WHERE code IS NOT NULL;
CREATE INDEX onlyonce_access_log_duration ON onlyonce_access_log (duration_ms, id);

-- Records, the sequence of their fences, and every step of the store's contract as a function:
-- one statement, one round trip, one place where the rules stand.
--
-- Plans are pinned (`enable_seqscan = off`): a session keeps the plan that it made first, and one
-- made while the table happened to be empty would read all of it when it has filled again.
--
-- Times are milliseconds since 1970 on the server's clock. `p_now` puts another clock in its place;
-- only tests do that.

CREATE SEQUENCE {schema}.fence AS bigint;

CREATE TABLE {schema}.record (
    id          bytea    PRIMARY KEY,
    -- 0 in progress, 1 unknown, 2 completed, 3 completed without its result
    state       smallint NOT NULL CHECK (state BETWEEN 0 AND 3),
    status      integer,
    attempt     bigint   NOT NULL,
    fence       bigint   NOT NULL,
    created     bigint   NOT NULL,
    -- In progress: when the lease runs out, and how long the record is kept behind that.
    lease_until bigint,
    keep        bigint,
    expires     bigint   NOT NULL,
    -- `expires` in steps of five minutes. It is what the sweep's index is on: renewing and
    -- completing mostly leave it as it is, and such an update touches no index (HOT).
    sweep       integer  NOT NULL,
    nonce       bytea    NOT NULL,
    fingerprint bytea,
    -- UTF-8, but with NUL, which `text` does not take.
    label       bytea    NOT NULL,
    result      bytea
) WITH (
    -- Room for the versions that renewing and completing leave on the page.
    fillfactor = 70,
    -- Most rows die: once by completing, once by expiring.
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.05
);
-- What is stored is sealed or compressed already, or small.
ALTER TABLE {schema}.record ALTER COLUMN result SET STORAGE EXTERNAL;
CREATE INDEX record_sweep ON {schema}.record (sweep);

-- Who waits for which record, so that nobody is notified of what nobody waits for: NOTIFY takes a
-- lock that all commits with notifications share. Lost in a crash, as those who wait are.
CREATE UNLOGGED TABLE {schema}.watch (
    id    bytea  NOT NULL,
    until bigint NOT NULL
);
CREATE INDEX watch_id ON {schema}.watch (id);

CREATE FUNCTION {schema}.millis(p_now bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN coalesce(p_now, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint);
END $$;

CREATE FUNCTION {schema}.sweep_of(p_expires bigint) RETURNS integer
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    -- Rounded up: what an entry of the index stands for has expired for certain.
    RETURN least(p_expires / 300000 + 1, 2147483647)::integer;
END $$;

-- Tells those who wait for a record, after the change and in its transaction.
CREATE FUNCTION {schema}.announce(p_id bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
BEGIN
    DELETE FROM {schema}.watch w WHERE w.id = p_id;
    IF FOUND THEN
        PERFORM pg_notify({channel}, encode(p_id, 'hex'));
    END IF;
END $$;

CREATE FUNCTION {schema}.claim(
    p_id bytea, p_nonce bytea, p_fingerprint bytea, p_lease bigint, p_keep bigint,
    p_retry boolean, p_label bytea, p_now bigint,
    OUT won boolean, OUT fence bigint, OUT attempt bigint, OUT state smallint, OUT status integer,
    OUT fingerprint bytea, OUT lease_left bigint, OUT age bigint, OUT expires_in bigint,
    OUT label bytea, OUT result bytea
) LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    r {schema}.record%ROWTYPE;
    v_now bigint;
    v_until bigint;
    v_expires bigint;
BEGIN
    LOOP
        -- Most claims that find something find a completed record: seen without any lock.
        SELECT * INTO r FROM {schema}.record t WHERE t.id = p_id;
        v_now := {schema}.millis(p_now);
        v_until := v_now + p_lease;
        v_expires := v_until + p_keep;

        IF r.id IS NULL THEN
            -- From the fence to its row nobody else may come in between: a claim that got its fence
            -- before, and its row after, a whole life of the record would turn the fence back.
            PERFORM pg_advisory_xact_lock(
                ('x' || encode(substr(p_id, 1, 8), 'hex'))::bit(64)::bigint
            );
            INSERT INTO {schema}.record AS t
                (id, state, attempt, fence, created, lease_until, keep, expires, sweep, nonce,
                 fingerprint, label)
            VALUES
                (p_id, 0, 1, nextval({fence}), v_now, v_until, p_keep, v_expires,
                 {schema}.sweep_of(v_expires), p_nonce, p_fingerprint, p_label)
            ON CONFLICT (id) DO NOTHING
            RETURNING true, t.fence, t.attempt INTO won, fence, attempt;
            IF FOUND THEN
                RETURN;
            END IF;
            CONTINUE;
        END IF;

        IF r.expires <= v_now OR r.state = 0 THEN
            -- It may be this claim's: from here on nobody else changes it.
            SELECT * INTO r FROM {schema}.record t WHERE t.id = p_id FOR UPDATE;
            IF NOT FOUND THEN
                CONTINUE;
            END IF;
            v_now := {schema}.millis(p_now);
            v_until := v_now + p_lease;
            v_expires := v_until + p_keep;

            IF r.expires <= v_now THEN
                UPDATE {schema}.record t SET
                    state = 0, status = NULL, attempt = 1, fence = nextval({fence}),
                    created = v_now, lease_until = v_until, keep = p_keep, expires = v_expires,
                    sweep = {schema}.sweep_of(v_expires), nonce = p_nonce,
                    fingerprint = p_fingerprint, label = p_label, result = NULL
                WHERE t.id = p_id
                RETURNING true, t.fence, t.attempt INTO won, fence, attempt;
                RETURN;
            END IF;
            IF r.state = 0 AND r.nonce = p_nonce THEN
                -- The reply to this very claim was lost; it starts its lease again.
                UPDATE {schema}.record t SET
                    lease_until = v_until, keep = p_keep, expires = v_expires,
                    sweep = {schema}.sweep_of(v_expires)
                WHERE t.id = p_id
                RETURNING true, t.fence, t.attempt INTO won, fence, attempt;
                RETURN;
            END IF;
            IF r.state = 0 AND r.lease_until <= v_now AND p_retry
                AND (
                    r.fingerprint IS NULL OR r.fingerprint = p_fingerprint
                    -- A first byte of 0: none was taken, which matches every other.
                    OR get_byte(r.fingerprint, 0) = 0 AND p_fingerprint IS NOT NULL
                    OR get_byte(p_fingerprint, 0) = 0
                )
            THEN
                UPDATE {schema}.record t SET
                    attempt = least(t.attempt + 1, 4294967295), fence = nextval({fence}),
                    lease_until = v_until, keep = p_keep, expires = v_expires,
                    sweep = {schema}.sweep_of(v_expires), nonce = p_nonce,
                    fingerprint = p_fingerprint, label = p_label
                WHERE t.id = p_id
                RETURNING true, t.fence, t.attempt INTO won, fence, attempt;
                RETURN;
            END IF;
        END IF;

        won := false;
        fence := r.fence;
        attempt := r.attempt;
        state := r.state;
        status := r.status;
        fingerprint := r.fingerprint;
        lease_left := CASE WHEN r.state = 0 THEN greatest(r.lease_until - v_now, 0) END;
        age := greatest(v_now - r.created, 0);
        expires_in := r.expires - v_now;
        label := r.label;
        result := r.result;
        RETURN;
    END LOOP;
END $$;

CREATE FUNCTION {schema}.renew(
    p_id bytea, p_fence bigint, p_extend bigint, p_fingerprint bytea, p_now bigint
) RETURNS boolean LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
    v_now bigint := {schema}.millis(p_now);
BEGIN
    UPDATE {schema}.record t SET
        lease_until = v_now + p_extend, expires = v_now + p_extend + t.keep,
        sweep = {schema}.sweep_of(v_now + p_extend + t.keep),
        fingerprint = coalesce(p_fingerprint, t.fingerprint)
    WHERE t.id = p_id AND t.fence = p_fence AND t.state = 0 AND t.expires > v_now;
    RETURN FOUND;
END $$;

CREATE FUNCTION {schema}.complete(
    p_id bytea, p_fence bigint, p_state smallint, p_status integer, p_fingerprint bytea,
    p_result bytea, p_keep bigint, p_now bigint
) RETURNS boolean LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
    v_now bigint := {schema}.millis(p_now);
BEGIN
    UPDATE {schema}.record t SET
        state = p_state, status = p_status, result = p_result, lease_until = NULL, keep = NULL,
        expires = v_now + p_keep, sweep = {schema}.sweep_of(v_now + p_keep),
        fingerprint = coalesce(p_fingerprint, t.fingerprint)
    WHERE t.id = p_id AND t.fence = p_fence AND t.state = 0 AND t.expires > v_now;
    IF FOUND THEN
        PERFORM {schema}.announce(p_id);
        RETURN true;
    END IF;
    -- This owner has completed it already: the first result stands.
    RETURN EXISTS (
        SELECT FROM {schema}.record t
        WHERE t.id = p_id AND t.fence = p_fence AND t.state <> 0 AND t.expires > v_now
    );
END $$;

CREATE FUNCTION {schema}.release(p_id bytea, p_fence bigint, p_now bigint)
RETURNS boolean LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
    v_now bigint := {schema}.millis(p_now);
BEGIN
    DELETE FROM {schema}.record t
    WHERE t.id = p_id AND t.fence = p_fence AND t.state = 0 AND t.expires > v_now;
    IF FOUND THEN
        PERFORM {schema}.announce(p_id);
        RETURN true;
    END IF;
    RETURN false;
END $$;

-- To be called before looking at the record. Whoever changes it at this moment holds its lock:
-- either the change is seen by that look, or this is seen by the change.
CREATE FUNCTION {schema}.watch(p_id bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
BEGIN
    INSERT INTO {schema}.watch (id, until)
    VALUES (p_id, {schema}.millis(NULL) + 600000);
    PERFORM FROM {schema}.record t WHERE t.id = p_id FOR SHARE;
END $$;

-- 1 done, 0 no such record, -1 refused
CREATE FUNCTION {schema}.resolve(
    p_id bytea, p_executed boolean, p_status integer, p_result bytea, p_now bigint
) RETURNS integer LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
    r {schema}.record%ROWTYPE;
    v_now bigint;
BEGIN
    SELECT * INTO r FROM {schema}.record t WHERE t.id = p_id FOR UPDATE;
    v_now := {schema}.millis(p_now);
    IF r.id IS NULL OR r.expires <= v_now THEN
        RETURN 0;
    END IF;
    IF r.state > 1 OR (r.state = 0 AND r.lease_until > v_now) THEN
        RETURN -1;
    END IF;
    IF p_executed THEN
        UPDATE {schema}.record t SET
            state = CASE WHEN p_result IS NULL THEN 3 ELSE 2 END, status = p_status,
            result = p_result, fence = nextval({fence}), lease_until = NULL, keep = NULL
        WHERE t.id = p_id;
    ELSE
        DELETE FROM {schema}.record t WHERE t.id = p_id;
    END IF;
    PERFORM {schema}.announce(p_id);
    -- For the copies that others keep.
    PERFORM pg_notify({void}, encode(p_id, 'hex'));
    RETURN 1;
END $$;

CREATE FUNCTION {schema}.forget(p_id bytea, p_now bigint)
RETURNS integer LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
    r {schema}.record%ROWTYPE;
    v_now bigint;
BEGIN
    SELECT * INTO r FROM {schema}.record t WHERE t.id = p_id FOR UPDATE;
    v_now := {schema}.millis(p_now);
    IF r.id IS NULL OR r.expires <= v_now THEN
        RETURN 0;
    END IF;
    IF r.state = 0 AND r.lease_until > v_now THEN
        RETURN -1;
    END IF;
    DELETE FROM {schema}.record t WHERE t.id = p_id;
    PERFORM {schema}.announce(p_id);
    -- For the copies that others keep.
    PERFORM pg_notify({void}, encode(p_id, 'hex'));
    RETURN 1;
END $$;

-- Removes some of what has expired, and nothing that anybody is at. How many rows went.
CREATE FUNCTION {schema}.sweep(p_most integer, p_now bigint)
RETURNS bigint LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
    v_now bigint := {schema}.millis(p_now);
    v_gone bigint;
BEGIN
    DELETE FROM {schema}.watch w WHERE w.until < {schema}.millis(NULL);
    DELETE FROM {schema}.record t WHERE t.id IN (
        SELECT s.id FROM {schema}.record s
        WHERE s.sweep <= v_now / 300000 AND s.expires <= v_now
        LIMIT p_most FOR UPDATE SKIP LOCKED
    );
    GET DIAGNOSTICS v_gone = ROW_COUNT;
    RETURN v_gone;
END $$;

-- The transactional mode: whoever claims holds a transaction open, in which the handler does its
-- own work, and which ends with the record or with nothing.
--
-- The lock on a record that does not exist yet is an advisory one, on other bytes of its identifier
-- than `claim` uses: that one must not wait for a handler. That two identifiers share eight bytes is
-- as good as impossible, and would make one of them wait, no more. What decides is the primary key.

CREATE FUNCTION {schema}.transaction_lock(p_id bytea) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN ('x' || encode(substr(p_id, 9, 8), 'hex'))::bit(64)::bigint;
END $$;

-- `busy`: another transaction is at work on it.
CREATE FUNCTION {schema}.begin_claim(
    p_id bytea, p_now bigint,
    OUT busy boolean, OUT won boolean, OUT fence bigint, OUT attempt bigint, OUT state smallint,
    OUT status integer, OUT fingerprint bytea, OUT lease_left bigint, OUT age bigint,
    OUT expires_in bigint, OUT label bytea, OUT result bytea
) LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    r {schema}.record%ROWTYPE;
    v_now bigint;
BEGIN
    busy := NOT pg_try_advisory_xact_lock({schema}.transaction_lock(p_id));
    won := false;
    IF busy THEN
        RETURN;
    END IF;
    -- With the lock in hand: this sees what its last holder committed.
    SELECT * INTO r FROM {schema}.record t WHERE t.id = p_id;
    v_now := {schema}.millis(p_now);
    IF r.id IS NULL OR r.expires <= v_now THEN
        won := true;
        fence := nextval({fence});
        attempt := 1;
        RETURN;
    END IF;
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
END $$;

-- To be committed with what the handler did. False: another record is there, and stays.
CREATE FUNCTION {schema}.end_claim(
    p_id bytea, p_fence bigint, p_nonce bytea, p_state smallint, p_status integer,
    p_fingerprint bytea, p_result bytea, p_label bytea, p_age bigint, p_keep bigint, p_now bigint
) RETURNS boolean LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
    v_now bigint := {schema}.millis(p_now);
BEGIN
    INSERT INTO {schema}.record AS t
        (id, state, status, attempt, fence, created, expires, sweep, nonce, fingerprint, label,
         result)
    VALUES
        (p_id, p_state, p_status, 1, p_fence, v_now - p_age, v_now + p_keep,
         {schema}.sweep_of(v_now + p_keep), p_nonce, p_fingerprint, p_label, p_result)
    ON CONFLICT (id) DO UPDATE SET
        state = excluded.state, status = excluded.status, attempt = 1, fence = excluded.fence,
        created = excluded.created, lease_until = NULL, keep = NULL, expires = excluded.expires,
        sweep = excluded.sweep, nonce = excluded.nonce, fingerprint = excluded.fingerprint,
        label = excluded.label, result = excluded.result
    WHERE t.expires <= v_now;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM {schema}.announce(p_id);
    RETURN true;
END $$;

-- Whether a transaction that ended unseen was committed: waits until it has ended.
CREATE FUNCTION {schema}.was_committed(p_id bytea, p_fence bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
BEGIN
    PERFORM pg_advisory_xact_lock({schema}.transaction_lock(p_id));
    RETURN EXISTS (SELECT FROM {schema}.record t WHERE t.id = p_id AND t.fence = p_fence);
END $$;

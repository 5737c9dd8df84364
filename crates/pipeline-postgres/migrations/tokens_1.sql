-- Sessions of tokens, and tickets. Neither tokens nor users' names are here, only hashes.

CREATE TABLE {schema}.token_session (
    user_key  bytea       NOT NULL,
    token     bytea       NOT NULL,
    since     timestamptz NOT NULL,
    until     timestamptz NOT NULL,
    refreshes integer     NOT NULL,
    PRIMARY KEY (user_key, token)
);
CREATE INDEX token_session_until ON {schema}.token_session (until);

-- The token of each user's last login. Who changes a user's sessions locks this row first, so that
-- two never wait for each other.
CREATE TABLE {schema}.token_current (
    user_key bytea PRIMARY KEY,
    token    bytea
);

CREATE TABLE {schema}.token_ticket (
    ticket   bytea       PRIMARY KEY,
    grants   bytea       NOT NULL,
    until    timestamptz NOT NULL
);
CREATE INDEX token_ticket_until ON {schema}.token_ticket (until);

CREATE FUNCTION {schema}.token_after(milliseconds bigint) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT now() + milliseconds * interval '1 millisecond'
$$;

CREATE FUNCTION {schema}.token_begin(of_user bytea, new_token bytea, keep bigint, at_most bigint)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {schema}.token_current AS c (user_key, token) VALUES (of_user, new_token)
    ON CONFLICT (user_key) DO UPDATE SET token = excluded.token;
    DELETE FROM {schema}.token_session s WHERE s.user_key = of_user AND s.until <= now();
    DELETE FROM {schema}.token_session s WHERE s.user_key = of_user AND s.token IN (
        SELECT o.token FROM {schema}.token_session o
        WHERE o.user_key = of_user AND o.token <> new_token
        ORDER BY o.until DESC, o.since DESC, o.token DESC OFFSET at_most - 1
    );
    INSERT INTO {schema}.token_session AS s (user_key, token, since, until, refreshes)
    VALUES (of_user, new_token, now(), {schema}.token_after(keep), 0)
    ON CONFLICT (user_key, token) DO UPDATE
    SET since = excluded.since, until = excluded.until, refreshes = 0;
    -- Others' leftovers, a few at a time; what somebody holds is for the next one.
    DELETE FROM {schema}.token_session s WHERE s.ctid IN (
        SELECT o.ctid FROM {schema}.token_session o WHERE o.until <= now()
        ORDER BY o.until LIMIT 10 FOR UPDATE SKIP LOCKED
    );
    RETURN true;
END $$;

CREATE FUNCTION {schema}.token_extend(of_user bytea, its_token bytea, expected integer, keep bigint)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {schema}.token_session s
    SET since = now(), until = {schema}.token_after(keep), refreshes = s.refreshes + 1
    WHERE s.user_key = of_user AND s.token = its_token AND s.refreshes = expected
        AND s.until > now();
    RETURN FOUND;
END $$;

CREATE FUNCTION {schema}.token_replace(
    of_user bytea, old_token bytea, new_token bytea, expected integer, keep bigint
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM {schema}.token_current c WHERE c.user_key = of_user FOR UPDATE;
    DELETE FROM {schema}.token_session s
    WHERE s.user_key = of_user AND s.token = old_token AND s.refreshes = expected
        AND s.until > now();
    IF NOT FOUND THEN
        -- Asked a second time, as the first answer was lost: nobody else has this token.
        RETURN EXISTS (
            SELECT FROM {schema}.token_session s
            WHERE s.user_key = of_user AND s.token = new_token AND s.refreshes = expected + 1
                AND s.until > now()
        );
    END IF;
    INSERT INTO {schema}.token_session (user_key, token, since, until, refreshes)
    VALUES (of_user, new_token, now(), {schema}.token_after(keep), expected + 1);
    UPDATE {schema}.token_current c SET token = new_token
    WHERE c.user_key = of_user AND c.token = old_token;
    RETURN true;
END $$;

CREATE FUNCTION {schema}.token_end(of_user bytea, its_token bytea)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    was_live boolean;
BEGIN
    PERFORM 1 FROM {schema}.token_current c WHERE c.user_key = of_user FOR UPDATE;
    DELETE FROM {schema}.token_session s WHERE s.user_key = of_user AND s.token = its_token
    RETURNING s.until > now() INTO was_live;
    UPDATE {schema}.token_current c SET token = NULL
    WHERE c.user_key = of_user AND c.token = its_token;
    RETURN coalesce(was_live, false);
END $$;

CREATE FUNCTION {schema}.token_end_all(of_user bytea) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM {schema}.token_current c WHERE c.user_key = of_user FOR UPDATE;
    DELETE FROM {schema}.token_session s WHERE s.user_key = of_user;
    UPDATE {schema}.token_current c SET token = NULL WHERE c.user_key = of_user;
    RETURN true;
END $$;

CREATE FUNCTION {schema}.token_put_ticket(its_ticket bytea, its_grants bytea, keep bigint)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {schema}.token_ticket AS t (ticket, grants, until)
    VALUES (its_ticket, its_grants, {schema}.token_after(keep))
    ON CONFLICT (ticket) DO UPDATE SET grants = excluded.grants, until = excluded.until;
    DELETE FROM {schema}.token_ticket t WHERE t.ctid IN (
        SELECT o.ctid FROM {schema}.token_ticket o WHERE o.until <= now()
        ORDER BY o.until LIMIT 10 FOR UPDATE SKIP LOCKED
    );
    RETURN true;
END $$;

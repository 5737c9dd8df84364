-- The secret that all records are found under, or the sign of one that is given from elsewhere: what
-- all who share the schema go by. Kept once; only an operator removes it.

CREATE TABLE {schema}.secret (
    the_one boolean PRIMARY KEY DEFAULT true CHECK (the_one),
    kept    bytea   NOT NULL
);

-- Keeps the offer, unless something is kept or there is none; gives what is kept.
CREATE FUNCTION {schema}.keep_secret(p_offer bytea) RETURNS bytea
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_offer IS NOT NULL THEN
        -- Waits for whoever does the same, and sees below what that one kept.
        INSERT INTO {schema}.secret (kept) VALUES (p_offer) ON CONFLICT DO NOTHING;
    END IF;
    RETURN (SELECT kept FROM {schema}.secret);
END $$;

-- A step waits for a lock no longer than anybody waits for the step, by default: those of each other
-- are held for moments, and a longer one is an operator's (VACUUM FULL, ALTER TABLE). Without, each
-- step that is given up would leave a session behind that goes on waiting, until the server takes no
-- more of anybody's. It stands on the functions, as a pooler gives no session to itself.
--
-- Not `statement_timeout`: that would also end the wait for a synchronous standby, and make known
-- what no standby has. Not where a transaction must wait for another's end, however long that takes:
-- `end_claim`, `was_committed`.

ALTER FUNCTION {schema}.claim(bytea, bytea, bytea, bigint, bigint, boolean, bytea, bigint)
    SET lock_timeout = '1s';
ALTER FUNCTION {schema}.renew(bytea, bigint, bigint, bytea, bigint) SET lock_timeout = '1s';
ALTER FUNCTION {schema}.complete(bytea, bigint, smallint, integer, bytea, bytea, bigint, bigint)
    SET lock_timeout = '1s';
ALTER FUNCTION {schema}.release(bytea, bigint, bigint) SET lock_timeout = '1s';
ALTER FUNCTION {schema}.watch(bytea) SET lock_timeout = '1s';
ALTER FUNCTION {schema}.resolve(bytea, boolean, integer, bytea, bigint) SET lock_timeout = '1s';
ALTER FUNCTION {schema}.forget(bytea, bigint) SET lock_timeout = '1s';
ALTER FUNCTION {schema}.sweep(integer, bigint) SET lock_timeout = '1s';
ALTER FUNCTION {schema}.begin_claim(bytea, bigint) SET lock_timeout = '1s';

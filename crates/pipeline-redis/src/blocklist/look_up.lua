-- KEYS: entries, hits. ARGV: names. Gives the entries, and their hits.
return { redis.call('HMGET', KEYS[1], unpack(ARGV)), redis.call('HMGET', KEYS[2], unpack(ARGV)) }

-- KEYS: entries, hits, meta, log. ARGV: epoch and revision that are known.
-- Gives epoch and revision; and, where it can be told, the names of what has changed, and the
-- entries, nothing for those that are gone.

local meta = redis.call('HMGET', KEYS[3], 'epoch', 'revision', 'floor')
local epoch, revision = meta[1] or '0', meta[2] or '0'
local since, floor = tonumber(ARGV[2]), tonumber(meta[3] or '0')
if ARGV[1] ~= epoch or since < floor or since > tonumber(revision) then
  return { epoch, revision }
end
local ids = redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. ARGV[2], '+inf')
local entries = {}
for _, id in ipairs(ids) do
  entries[#entries + 1] = redis.call('HGET', KEYS[1], id)
end
return { epoch, revision, ids, entries }

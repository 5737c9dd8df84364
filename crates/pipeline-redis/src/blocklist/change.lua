-- KEYS: entries, hits, meta, log. ARGV: what to do, name, entry, epoch for a new list, channel,
-- how many changes the log holds.
-- Gives nothing when there is no such entry, else epoch, revision, name.

local id = ARGV[2]
if ARGV[1] == 'add' then
  repeat
    id = tostring(redis.call('HINCRBY', KEYS[3], 'last', 1))
    -- Others may have given names, too.
  until redis.call('HEXISTS', KEYS[1], id) == 0
elseif redis.call('HEXISTS', KEYS[1], id) == 0 then
  return false
end
if ARGV[1] == 'remove' then
  redis.call('HDEL', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
else
  redis.call('HSET', KEYS[1], id, ARGV[3])
end
redis.call('HSETNX', KEYS[3], 'epoch', ARGV[4])
local revision = redis.call('HINCRBY', KEYS[3], 'revision', 1)
redis.call('ZADD', KEYS[4], revision, id)
local over = redis.call('ZCARD', KEYS[4]) - tonumber(ARGV[6])
if over > 0 then
  local gone = redis.call('ZPOPMIN', KEYS[4], over)
  -- Who knows less than this can't be told what has changed since.
  redis.call('HSET', KEYS[3], 'floor', gone[#gone])
end
redis.call('PUBLISH', ARGV[5], tostring(revision))
return { redis.call('HGET', KEYS[3], 'epoch'), tostring(revision), id }

-- What every other script needs, on keys that nobody else has. KEYS: two keys of a record.
-- ARGV: '1' to write, command that publishes, channel.

local time = redis.call('TIME')
redis.call('GET', KEYS[1])
if ARGV[1] == '1' then
  redis.call('SET', KEYS[1], time[1], 'PXAT', time[1] .. '000')
  redis.call('SET', KEYS[2], time[1])
end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call(ARGV[2], ARGV[3], '')
return 1

-- KEYS: entries, hits. ARGV: names, each followed by a number.
for at = 1, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[1], ARGV[at]) == 1 then
    redis.call('HINCRBY', KEYS[2], ARGV[at], ARGV[at + 1])
  end
end
return 1

-- Keeps what is offered under a key of its own, unless something is kept. It never expires.
-- ARGV: clock, key, offer or '' to look only. Gives what is kept, or nothing.

begin_writing()
local kept = redis.call('GET', ARGV[2])
if not kept and ARGV[3] ~= '' then
  kept = ARGV[3]
  redis.call('SET', ARGV[2], kept)
end
return kept

-- Entry::may_release. KEYS: record. ARGV: clock, fence, command that publishes, channel.
-- Gives 1 when the record is gone by this, 0 when it is another's or was gone.

begin_writing()
local now = clock(ARGV[1])
local entry, wrong = live(KEYS[1], now)
if wrong then
  return wrong
end
if not entry or entry.stage ~= WORKING or entry.fence ~= ARGV[2] then
  return 0
end
redis.call('DEL', KEYS[1])
tell(ARGV[3], ARGV[4])
return 1

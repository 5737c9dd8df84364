-- Entry::may_forget. KEYS: record. ARGV: clock, command that publishes, channel, channel of void copies, identifier.
-- Gives 1 when it is applied, 2 when it is refused, 0 when there is no record.

begin_writing()
local now = clock(ARGV[1])
local entry, wrong = live(KEYS[1], now)
if wrong then
  return wrong
end
if not entry then
  return 0
end
if entry.stage == WORKING and now < entry.lease_until then
  return 2
end
void(ARGV[4], ARGV[5])
redis.call('DEL', KEYS[1])
tell(ARGV[2], ARGV[3])
return 1

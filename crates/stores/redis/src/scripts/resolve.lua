-- Entry::resolve. KEYS: record, sequence of fences.
-- ARGV: clock, tail or '' to remove the record, command that publishes, channel, channel of void
-- copies, identifier.
-- Gives 1 when it is applied, 2 when it is refused, 0 when there is no record.

local injected, tail = ARGV[1], ARGV[2]

begin_writing()
local now = clock(injected)
local entry, wrong = live(KEYS[1], now)
if wrong then
  return wrong
end
if not entry then
  return 0
end
local lapsed = entry.stage == WORKING and now >= entry.lease_until
if not lapsed and entry.stage ~= UNKNOWN then
  return 2
end
void(ARGV[5], ARGV[6])
if tail == '' then
  redis.call('DEL', KEYS[1])
else
  entry.fence, wrong = next_fence(KEYS[2], struct.unpack('<I8', entry.fence))
  if wrong then
    return wrong
  end
  write(KEYS[1], entry, tail, injected)
end
tell(ARGV[3], ARGV[4])
return 1

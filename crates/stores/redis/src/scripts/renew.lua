-- Entry::renew. KEYS: record. ARGV: clock, fence, extend, fingerprint or ''.
-- Gives 1 when it is applied, 0 when the record is another's or gone.

local injected, fence, extend, print = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]

begin_writing()
local now = clock(injected)
local entry, wrong = live(KEYS[1], now)
if wrong then
  return wrong
end
if not entry or entry.stage ~= WORKING or entry.fence ~= fence then
  return 0
end
local lease_until = now + extend
entry.expires = lease_until + entry.keep
if print ~= '' then
  entry.print = print
end
write(KEYS[1], entry, working(lease_until, entry.keep), injected)
return 1

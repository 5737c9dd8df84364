-- Entry::complete. KEYS: record.
-- ARGV: clock, fence, fingerprint or '', keep, tail, command that publishes, channel.
-- Gives 1 when it is applied, now or before, 0 when the record is another's or gone.

local injected, fence, print, keep = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

begin_writing()
local now = clock(injected)
local entry, wrong = live(KEYS[1], now)
if wrong then
  return wrong
end
if not entry or entry.fence ~= fence then
  return 0
end
if entry.stage ~= WORKING then
  return 1
end
entry.expires = now + keep
if print ~= '' then
  entry.print = print
end
write(KEYS[1], entry, ARGV[5], injected)
tell(ARGV[6], ARGV[7])
return 1

-- Entry::view. KEYS: record. ARGV: clock, 'whole' or 'head'.
-- Gives {now, record, size}, or nothing. 'head' leaves the result out: an empty one stands for it.

begin_writing()
local now = clock(ARGV[1])
local entry, wrong, value = live(KEYS[1], now)
if wrong then
  return wrong
end
if not entry then
  return false
end
local size = #value
if ARGV[2] == 'head' and entry.stage == KEPT then
  value = value:sub(1, entry.stage_at + 2) .. struct.pack('<I8', 0)
end
return { digits(now), value, size }

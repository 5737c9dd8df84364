-- Entry::claim. KEYS: record, sequence of fences.
-- ARGV: clock, nonce, fingerprint, lease, keep, '1' to succeed a vanished owner, label.
-- Gives {1, fence, attempt} when it is won, else {0, now, record}.

local injected, nonce, print = ARGV[1], ARGV[2], ARGV[3]
local lease, keep, retry = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'

-- Whether a request with this fingerprint is known to be the one that the record is of.
local function verified(first)
  local unknown, off = '\255', '\0'
  if first == unknown then
    return true
  elseif print == unknown then
    return false
  end
  return first:sub(1, 1) == off or print:sub(1, 1) == off or first == print
end

local now = clock(injected)
local entry, wrong, value = live(KEYS[1], now)
if wrong then
  return wrong
end

local lease_until = now + lease
if entry and entry.stage == WORKING and entry.nonce == nonce then
  -- The answer to this very claim was lost; it starts its lease again.
  entry.expires = lease_until + keep
elseif entry then
  local lapsed = entry.stage == WORKING and now >= entry.lease_until
  if not (lapsed and retry and verified(entry.print)) then
    begin_writing()
    return { 0, digits(now), value }
  end
  local fence
  fence, wrong = next_fence(KEYS[2], struct.unpack('<I8', entry.fence))
  if wrong then
    return wrong
  end
  entry = {
    print = print,
    attempt = math.min(entry.attempt + 1, 4294967295),
    fence = fence,
    nonce = nonce,
    created = entry.created,
    expires = lease_until + keep,
    label = ARGV[7],
  }
else
  local fence
  fence, wrong = next_fence(KEYS[2], 0)
  if wrong then
    return wrong
  end
  entry = {
    print = print,
    attempt = 1,
    fence = fence,
    nonce = nonce,
    created = struct.pack('<I8', now),
    expires = lease_until + keep,
    label = ARGV[7],
  }
end
write(KEYS[1], entry, working(lease_until, keep), injected)
return { 1, entry.fence, entry.attempt }

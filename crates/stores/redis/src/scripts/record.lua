-- A record as it lies under its key: version 1 of the encoding in onlyonce_core::codec. Each
-- script begins with this file, and does one step of onlyonce_core::Entry.
--
-- Spans and instants are milliseconds. A number in Lua is exact up to 2^53; the caller clamps what
-- it sends far below. Fences are compared as the eight bytes that they are stored as.

local WORKING, UNKNOWN, KEPT, NOT_KEPT = 0, 1, 2, 3

-- A write that changes nothing. A replica refuses it: what a script would read there may be old.
-- And a script that has written is not stopped by a full memory any more: what is under way still
-- gets its record. A claim does it only when there is nothing left to write.
local function begin_writing()
  redis.call('DEL', KEYS[1] .. ':none')
end

-- The server's clock. Tests have another: its time, or the key that holds it.
local function clock(injected)
  if injected ~= '' then
    return tonumber(injected) or tonumber(redis.call('GET', injected))
  end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function digits(number)
  return string.format('%.0f', number)
end

local function corrupt(why)
  return redis.error_reply('ONLYONCECORRUPT ' .. why)
end

-- The record in these bytes; or nothing, and what is wrong with them.
local function decode(value)
  local size = #value
  local tag, version, algorithm = value:byte(1, 3)
  if tag ~= 69 then
    return nil, 'no record of Onlyonce'
  elseif version ~= 1 then
    return nil, 'a record of another version'
  end
  local at = 4
  if algorithm == 0 or algorithm == 1 then
    at = 36
  elseif algorithm ~= 255 then
    return nil, 'a record with an unknown kind of fingerprint'
  end
  if size < at + 48 then
    return nil, 'a record that ends early'
  end
  local label = struct.unpack('<I4', value, at + 44)
  local stage_at = at + 48 + label
  if size < stage_at then
    return nil, 'a record that ends early'
  end
  local entry = {
    print = value:sub(3, at - 1),
    attempt = struct.unpack('<I4', value, at),
    fence = value:sub(at + 4, at + 11),
    nonce = value:sub(at + 12, at + 27),
    created = value:sub(at + 28, at + 35),
    expires = struct.unpack('<I8', value, at + 36),
    label = value:sub(at + 48, stage_at - 1),
    stage = value:byte(stage_at),
    stage_at = stage_at,
  }
  local expected
  if entry.stage == WORKING then
    expected = stage_at + 16
    if size == expected then
      entry.lease_until = struct.unpack('<I8', value, stage_at + 1)
      entry.keep = struct.unpack('<I8', value, stage_at + 9)
    end
  elseif entry.stage == UNKNOWN then
    expected = stage_at
  elseif entry.stage == NOT_KEPT then
    expected = stage_at + 2
  elseif entry.stage == KEPT and size >= stage_at + 10 then
    expected = stage_at + 10 + struct.unpack('<I8', value, stage_at + 3)
  end
  if size ~= expected or entry.attempt == 0 then
    return nil, 'a damaged record'
  end
  return entry
end

-- The record under this key, if it has not expired, and its bytes; or nothing, and perhaps an
-- error.
local function live(key, now)
  local value = redis.call('GET', key)
  if not value then
    return nil
  end
  local entry, wrong = decode(value)
  if not entry then
    return nil, corrupt(wrong)
  end
  if now >= entry.expires then
    return nil
  end
  return entry, nil, value
end

-- What follows the label of a record that is worked on.
local function working(lease_until, keep)
  return struct.pack('<BI8I8', WORKING, lease_until, keep)
end

-- Writes the record with this tail. The key goes when the record expires; under an injected clock
-- the server can't know when that is.
local function write(key, entry, tail, injected)
  local value = table.concat({
    'E\1',
    entry.print,
    struct.pack('<I4', entry.attempt),
    entry.fence,
    entry.nonce,
    entry.created,
    struct.pack('<I8I4', entry.expires, #entry.label),
    entry.label,
    tail,
  })
  if injected ~= '' then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PXAT', digits(entry.expires))
  end
end

-- A fence above all that this sequence gave before and above `floor`, as eight bytes. Where the
-- sequence itself was lost, the server's clock has gone on.
local function next_fence(sequence, floor)
  local time = redis.call('TIME')
  local fence = math.max(time[1] * 1000000 + time[2], floor + 1)
  local last = redis.call('GET', sequence)
  if last then
    if not tonumber(last) then
      return nil, corrupt('a sequence of fences that is no number')
    end
    fence = math.max(fence, tonumber(last) + 1)
  end
  redis.call('SET', sequence, digits(fence))
  return struct.pack('<I8', fence)
end

-- Tells who waits. Nobody's step fails because nobody could be told.
local function tell(publish, channel)
  redis.pcall(publish, channel, '')
end

-- Announces that copies of the record are void, before it changes: a change that can't be announced
-- is not made, or caches would go on with what is gone.
local function void(channel, id)
  redis.call('PUBLISH', channel, id)
end

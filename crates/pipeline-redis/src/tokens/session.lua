-- KEYS: a user's sessions. ARGV: what to do, token, and more by what it is.
-- A field named like a token holds since, until (milliseconds, this server's clock) and how often
-- it was refreshed; the field `current` holds the token of the last login.

local key, what, token = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function parse(text)
  local since, till, refreshes = string.match(text, '^(%d+) (%d+) (%d+)$')
  if not since then
    error({ err = 'ERR a session cannot be read' })
  end
  return { since = tonumber(since), till = tonumber(till), refreshes = tonumber(refreshes) }
end

local function live(name)
  local text = name and redis.call('HGET', key, name)
  local session = text and parse(text)
  return session and session.till > now and session or nil
end

local function put(name, keep, refreshes)
  keep = tonumber(keep)
  redis.call('HSET', key, name, string.format('%.0f %.0f %d', now, now + keep, refreshes))
  -- The key outlasts all that is in it.
  if redis.call('PTTL', key) < keep then
    redis.call('PEXPIRE', key, string.format('%.0f', keep))
  end
end

if what == 'begin' then
  local others = {}
  local all = redis.call('HGETALL', key)
  for at = 1, #all, 2 do
    local name = all[at]
    if name ~= 'current' and name ~= token then
      local session = parse(all[at + 1])
      if session.till <= now then
        redis.call('HDEL', key, name)
      else
        session.name = name
        others[#others + 1] = session
      end
    end
  end
  table.sort(others, function(a, b)
    if a.till ~= b.till then return a.till < b.till end
    if a.since ~= b.since then return a.since < b.since end
    return a.name < b.name
  end)
  for at = 1, #others + 1 - tonumber(ARGV[4]) do
    redis.call('HDEL', key, others[at].name)
  end
  put(token, ARGV[3], 0)
  redis.call('HSET', key, 'current', token)
  return 1
end

local session = live(token)
local current = redis.call('HGET', key, 'current')

if what == 'look' then
  local whose = 0
  if live(current) then
    whose = current == token and 1 or 2
  end
  if not session then
    return { whose }
  end
  return { whose, session.refreshes, math.max(now - session.since, 0), session.till - now }
elseif what == 'extend' then
  if not session or session.refreshes ~= tonumber(ARGV[4]) then
    return 0
  end
  put(token, ARGV[3], session.refreshes + 1)
  return 1
elseif what == 'replace' then
  local new, refreshes = ARGV[5], tonumber(ARGV[4])
  if not session then
    -- Asked a second time, as the first answer was lost: nobody else has this token.
    local done = live(new)
    return done and done.refreshes == refreshes + 1 and 1 or 0
  end
  if session.refreshes ~= refreshes then
    return 0
  end
  redis.call('HDEL', key, token)
  put(new, ARGV[3], refreshes + 1)
  if current == token then
    redis.call('HSET', key, 'current', new)
  end
  return 1
elseif what == 'end' then
  redis.call('HDEL', key, token)
  if current == token then
    redis.call('HDEL', key, 'current')
  end
  return session and 1 or 0
elseif what == 'end all' then
  redis.call('DEL', key)
  return 1
end
return redis.error_reply('ERR unknown step')

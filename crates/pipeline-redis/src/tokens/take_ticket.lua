-- KEYS: a ticket. Gives what it stands for, to one who asks.
local grant = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
return grant

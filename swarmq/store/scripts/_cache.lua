-- Shared by the scripts of the result cache. KEYS: results, ages, stats. Calls are remembered with their answers.
local CLOCK = redis.call('TIME')
local NOW = tonumber(CLOCK[1]) + tonumber(CLOCK[2]) / 1000000
local TTL_SECONDS = 86400
local ONCE_SECONDS = 3600

local function count(name, by) redis.call('HINCRBY', KEYS[3], name, by) end

-- Removing comes first: a full server refuses a script whose first write needs memory.
local function drop(key)
  local bytes = redis.call('HSTRLEN', KEYS[1], key)
  redis.call('HDEL', KEYS[1], key)
  count('bytes', -bytes)
  redis.call('ZREM', KEYS[2], key)
end

local function drop_expired()
  local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.6f', NOW - TTL_SECONDS))
  for _, key in ipairs(old) do drop(key) end
  if #old > 0 then count('expirations', #old) end
end

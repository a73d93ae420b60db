-- The pods of the whole fleet, at most a budget of them at once. Shared by the scripts pods_*.
-- KEYS: permits, queue, tickets, shares
-- A ticket is a branch that wants a pod: it waits in the queue or holds a permit; `tickets` has its fields. The queue is
-- in fair order: each ticket gets the next share of its swarm, no lower than the share that was served last.
local CLOCK = redis.call('TIME')
local NOW = tonumber(CLOCK[1]) + tonumber(CLOCK[2]) / 1000000
local PERMITS, QUEUE, TICKETS, SHARES = unpack(KEYS)
local DEAD_SECONDS = 10    -- a ticket that did not ask for this long waits for nothing
local KEPT_SECONDS = 3600  -- nothing is kept longer after the last call
local SERVED = ''          -- in `shares`: the share that was served last; swarms' ids are not empty

local function stamp(seconds) return string.format('%.6f', seconds) end

local function read_ticket(id)
  local raw = redis.call('HGET', TICKETS, id)
  if not raw then return nil end
  local token, asked, swarm = string.match(raw, '^(%d+)|(.-)|(.*)$')
  return {token = tonumber(token), asked = tonumber(asked), swarm = swarm}
end

local function write_ticket(id, token, swarm)
  redis.call('HSET', TICKETS, id, token .. '|' .. stamp(NOW) .. '|' .. swarm)
end

local function forget(id)
  redis.call('ZREM', PERMITS, id)
  redis.call('ZREM', QUEUE, id)
  redis.call('HDEL', TICKETS, id)
end

local function drop_expired()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', PERMITS, '-inf', stamp(NOW))) do forget(id) end
end

local function keep_keys()
  for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, KEPT_SECONDS) end
end

local function ring() redis.call('PUBLISH', string.sub(PERMITS, 1, -8) .. 'ring', '') end

-- Shared by the scripts of a swarm. KEYS[1] is its record, swarmq:{id}:swarm; all its other keys have the same hash tag
-- and are named from it. Time is this server's own (TIME), frozen for one script; no caller's clock counts.
local SWARM = KEYS[1]
local BASE = string.sub(SWARM, 1, -6)
local ID = string.match(SWARM, '{(.-)}')
local CLOCK = redis.call('TIME')
local NOW = tonumber(CLOCK[1]) + tonumber(CLOCK[2]) / 1000000
local FINAL = {succeeded = true, partial = true, failed = true, cancelled = true}
local EVENTS_KEPT = 100000
local FLEET_EVENTS_KEPT = 10000
local ONCE_SECONDS = 3600

local function stamp(seconds) return string.format('%.6f', seconds) end

local function refuse(code, why) return {err = code .. ' ' .. why} end

local function wrong_version(what, found)
  return refuse('SCHEMA', what .. ': schema version ' .. tostring(found) .. ', this swarmq knows ' .. VERSION .. '; update swarmq')
end

-- The swarm's record as a table, or one with err, which is to be returned as it is.
local function load_swarm()
  local f = redis.call('HMGET', SWARM, 'v', 'state', 'cancel_reason', 'expire_at', 'max_subagents', 'max_deliveries',
    'paused_at')
  if not f[1] then return refuse('NOTFOUND', 'there is no swarm ' .. ID) end
  if f[1] ~= VERSION then return wrong_version('swarm ' .. ID, f[1]) end
  local swarm = {state = f[2], expire_at = f[4], paused = f[7]}
  swarm.max_subagents, swarm.max_deliveries = tonumber(f[5] or 1), tonumber(f[6] or 1)
  swarm.final = FINAL[f[2]] or false
  -- Why a branch has to stop, false where it need not.
  swarm.stop = f[3] or (swarm.final and 'the swarm has ended')
  return swarm
end

-- A key that was written after the end of the swarm leaves Redis together with the others.
local function keep(swarm, key)
  if swarm.expire_at then redis.call('EXPIREAT', key, swarm.expire_at) end
end

local function emit(swarm, event)
  redis.call('XADD', BASE .. 'events', 'MAXLEN', '~', EVENTS_KEPT, '*', 'e', event)
  keep(swarm, BASE .. 'events')
end

-- data must not be empty: cjson writes an empty table as {} whatever it was meant to be.
local function branch_event(kind, branch_id, subtask_id, data)
  return cjson.encode({version = 1, type = kind, at = NOW, swarm = ID, subtask = subtask_id, branch = branch_id, data = data})
end

-- True for the first call with this id, false when a lost reply makes the caller repeat it.
local function first_time(call)
  return redis.call('SET', BASE .. 'once:' .. call, '1', 'NX', 'EX', ONCE_SECONDS) and true or false
end

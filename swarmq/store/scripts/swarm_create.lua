-- uses: swarm
-- Record a swarm, once per id and per idempotency key.
-- KEYS: swarm, swarmq:swarms, swarmq:active, swarmq:events
-- ARGV: event, Celery task id or '', idempotency key or '', canvas' task id or '', canvas, field, value, field, value ...
-- Returns the id of the swarm that there is now: the first one's where the idempotency key is known.
local function is_there(id) return redis.call('EXISTS', 'swarmq:{' .. id .. '}:swarm') == 1 end

local task, idempotency = 'swarmq:task:' .. ARGV[2], 'swarmq:idempotency:' .. ARGV[3]
if ARGV[3] ~= '' then
  local first = redis.call('GET', idempotency)
  if first and is_there(first) then return first end
end
if is_there(ID) then return ID end
redis.call('HSET', SWARM, 'v', VERSION, 'state', 'submitted', 'stage', '-1', 'task_id', ARGV[2],
  'idempotency_key', ARGV[3], 'recorded_at', stamp(NOW), unpack(ARGV, 6))
if ARGV[4] ~= '' then redis.call('HSET', BASE .. 'canvases', ARGV[4], ARGV[5]) end
redis.call('ZADD', KEYS[2], stamp(NOW), ID)
redis.call('SADD', KEYS[3], ID)
if ARGV[2] ~= '' then redis.call('SET', task, ID) end
if ARGV[3] ~= '' then redis.call('SET', idempotency, ID) end
emit({}, ARGV[1])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', FLEET_EVENTS_KEPT, '*', 'e', ARGV[1])
return ID

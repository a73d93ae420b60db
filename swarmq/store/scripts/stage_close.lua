-- uses: swarm
-- Close a stage, once.
-- KEYS: swarm
-- ARGV: stage, call id, succeeded, failed
-- Returns 1 to the call that closed it, also when that call is repeated.
local swarm = load_swarm()
if swarm.err then return swarm end
local stage = BASE .. 'stage:' .. ARGV[1]
local f = redis.call('HMGET', stage, 'state', 'opened_at', 'closed_by')
if not f[1] then return refuse('NOTFOUND', 'swarm ' .. ID .. ' has no stage ' .. ARGV[1]) end
if f[1] == 'finished' then return f[3] == ARGV[2] and 1 or 0 end
redis.call('HSET', stage, 'state', 'finished', 'finished_at', stamp(NOW), 'closed_by', ARGV[2])
emit(swarm, cjson.encode({version = 1, type = 'stage.finished', at = NOW, swarm = ID, data = {
  stage = tonumber(ARGV[1]), succeeded = tonumber(ARGV[3]), failed = tonumber(ARGV[4]), seconds = NOW - tonumber(f[2]),
}}))
return 1

-- uses: swarm
-- Set the plan; the first one stays.
-- KEYS: swarm
-- ARGV: plan, number of stages, event, subtask ids ...
-- Returns 1 where the stored plan is this one, so also to the repeated call.
local swarm = load_swarm()
if swarm.err then return swarm end
local first = redis.call('HGET', SWARM, 'plan')
if first then return first == ARGV[1] and 1 or 0 end
if swarm.final then return 0 end
redis.call('HSET', SWARM, 'plan', ARGV[1], 'stages', ARGV[2])
for i = 4, #ARGV do redis.call('HSET', BASE .. 'subtasks', ARGV[i], 'pending') end
emit(swarm, ARGV[3])
return 1

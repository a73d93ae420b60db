-- uses: swarm
-- Write results of subtasks; those of an ended swarm stay what they are.
-- KEYS: swarm
-- ARGV: subtask id, status, result, subtask id, status, result ...
-- Returns 0 where the swarm has ended, else 1.
local swarm = load_swarm()
if swarm.err then return swarm end
if swarm.final then return 0 end
for i = 1, #ARGV, 3 do
  redis.call('HSET', BASE .. 'subtasks', ARGV[i], ARGV[i + 1])
  redis.call('HSET', BASE .. 'results', ARGV[i], ARGV[i + 2])
end
return 1

-- uses: swarm budget branch
-- Open a stage, or add branches to it. Branches that are there already stay as they are, so repeating it is harmless.
-- KEYS: swarm
-- ARGV: stage, max_subagents, eager (1: its branches are merged as they end), event, then for each branch its id, its
--   subtask's id, 1 where it is one of several of that subtask, spec
-- Returns the ids of the stage's queued branches, in order: those whose message is to be published.
local swarm = load_swarm()
if swarm.err then return swarm end
if swarm.final then return {} end
local number, stage = tonumber(ARGV[1]), BASE .. 'stage:' .. ARGV[1]
swarm.max_subagents = tonumber(ARGV[2])
if redis.call('EXISTS', stage) == 0 then
  redis.call('HSET', stage, 'v', VERSION, 'state', 'open', 'opened_at', stamp(NOW), 'eager', ARGV[3])
  emit(swarm, ARGV[4])
end
redis.call('HSET', SWARM, 'max_subagents', ARGV[2])
if number > tonumber(redis.call('HGET', SWARM, 'stage')) then redis.call('HSET', SWARM, 'stage', ARGV[1]) end
if swarm.state == 'submitted' or swarm.state == 'planning' then redis.call('HSET', SWARM, 'state', 'running') end
redis.call('HSETNX', SWARM, 'started_at', stamp(NOW))
for i = 5, #ARGV, 4 do
  local key = BASE .. 'branch:' .. ARGV[i]
  if redis.call('EXISTS', key) == 0 then
    redis.call('HSET', key, 'v', VERSION, 'spec', ARGV[i + 3], 'subtask', ARGV[i + 1], 'of_many', ARGV[i + 2],
      'stage', ARGV[1], 'state', 'waiting', 'token', '0', 'deliveries', '0', 'lease_until', '0', 'started_at', '0')
    redis.call('RPUSH', stage .. ':branches', ARGV[i])
    redis.call('RPUSH', BASE .. 'branches', ARGV[i])
    redis.call('RPUSH', BASE .. 'waiting', ARGV[i])
    redis.call('HSET', BASE .. 'subtasks', ARGV[i + 1], 'pending')
    redis.call('HSET', stage, 'state', 'open', 'finished_at', '0')
  end
end
fill_slots(swarm)
mark_stage(ARGV[1])
local queued = {}
for _, id in ipairs(redis.call('LRANGE', stage .. ':branches', 0, -1)) do
  if redis.call('HGET', BASE .. 'branch:' .. id, 'state') == 'queued' then queued[#queued + 1] = id end
end
return queued

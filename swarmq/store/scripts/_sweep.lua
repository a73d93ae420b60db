-- Names every key that a swarm may have, without a search; needs _swarm.lua. ARGV[first] on: how many names there are
-- per swarm, per stage and per branch, then the names (%s: the stage's number, the branch's id).
local function each_key(first, visit)
  local counts = {tonumber(ARGV[first]), tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2])}
  local at = first + 3
  local function each(count, fill)
    for i = at, at + count - 1 do fill(ARGV[i]) end
    at = at + count
  end
  local branches = redis.call('LRANGE', BASE .. 'branches', 0, -1)
  local tasks = redis.call('HKEYS', BASE .. 'canvases')
  for _, id in ipairs(redis.call('SMEMBERS', BASE .. 'told')) do tasks[#tasks + 1] = id end
  tasks[#tasks + 1] = redis.call('HGET', SWARM, 'task_id') or ''
  local idempotency = redis.call('HGET', SWARM, 'idempotency_key') or ''
  local last_stage = tonumber(redis.call('HGET', SWARM, 'stage') or -1)
  local own = {}
  each(counts[1], function(name) own[#own + 1] = BASE .. name end)
  each(counts[2], function(name)
    for stage = 0, last_stage do own[#own + 1] = BASE .. string.format(name, stage) end
  end)
  each(counts[3], function(name)
    for _, id in ipairs(branches) do own[#own + 1] = BASE .. string.format(name, id) end
  end)
  for _, id in ipairs(tasks) do own[#own + 1] = 'swarmq:task:' .. id end
  own[#own + 1] = 'swarmq:idempotency:' .. idempotency
  for _, key in ipairs(own) do visit(key) end
end

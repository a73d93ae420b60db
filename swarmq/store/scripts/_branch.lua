-- Shared by the scripts that read or end a branch; needs _swarm.lua and _budget.lua.
local STATUS = {completed = 'succeeded', timed_out = 'timed_out', cancelled = 'cancelled'}

local BRANCH_FIELDS = {
  'v', 'state', 'token', 'lease_until', 'cancel_reason', 'subtask', 'stage', 'started_at', 'deliveries', 'claim',
  'ended_by', 'advance', 'publish', 'was', 'queued_at', 'of_many', 'reserved', 'reserved_tokens', 'reserved_nano_usd',
}

-- The branch's record as a table (numbers as Redis has them: text), one with err, or nil where there is none.
local function load_branch(id)
  local values = redis.call('HMGET', BASE .. 'branch:' .. id, unpack(BRANCH_FIELDS))
  if not values[1] then return nil end
  if values[1] ~= VERSION then return wrong_version('branch ' .. id .. ' of swarm ' .. ID, values[1]) end
  local branch = {id = id, key = BASE .. 'branch:' .. id}
  for i, name in ipairs(BRANCH_FIELDS) do branch[name] = values[i] end
  branch.alive = branch.state == 'running' and tonumber(branch.lease_until) > NOW
  return branch
end

local function lost(id)
  return refuse('LEASELOST', 'branch ' .. id .. ' of swarm ' .. ID .. ' has another holder, or has ended')
end

-- The fence: only the holder of the newest token passes.
local function holds(branch, token)
  return branch and branch.state == 'running' and branch.token == token
end

-- Give back what a branch has reserved: it makes no call any more, or the next holder reserves anew.
local function unreserve(branch)
  local own = {}
  for i, name in ipairs(RESERVED) do own[i] = number(branch[name]) end
  hold_reservation(BASE .. 'counters', own, 0, 0, 0)
  redis.call('HSET', branch.key, RESERVED[1], '0', RESERVED[2], '0', RESERVED[3], '0')
end

-- Branches that wait get the free slots: never more than max_subagents are queued or running, and none starts in a
-- swarm that is paused or to stop (who resumes it publishes them; who cancels it ends them, else reconcile does).
local function fill_slots(swarm)
  local moved = {}
  if swarm.stop or swarm.paused then return moved end
  while redis.call('SCARD', BASE .. 'slots') < swarm.max_subagents do
    local id = redis.call('LPOP', BASE .. 'waiting')
    if not id then break end
    local key = BASE .. 'branch:' .. id
    local about = redis.call('HMGET', key, 'subtask', 'stage')
    redis.call('SADD', BASE .. 'slots', id)
    redis.call('HSET', key, 'state', 'queued', 'queued_at', stamp(NOW))
    emit(swarm, branch_event('branch.queued', id, about[1], {stage = tonumber(about[2])}))
    moved[#moved + 1] = id
  end
  return moved
end

-- 1 for the one call that finds an open stage complete, and marks it. In an eager stage also for each branch before: what
-- it leaves is merged at once.
local function mark_stage(stage)
  local key = BASE .. 'stage:' .. stage
  local f = redis.call('HMGET', key, 'state', 'eager')
  if f[1] ~= 'open' then return '0' end
  if redis.call('SCARD', key .. ':done') < redis.call('LLEN', key .. ':branches') then return f[2] == '1' and '1' or '0' end
  redis.call('HSET', key, 'state', 'advancing')
  return '1'
end

-- The first branch that is said to have won its race has.
local function win_race(swarm, subtask, id, by)
  local key = BASE .. 'races'
  if redis.call('HSETNX', key, subtask, cjson.encode({winner = id, by = by, at = NOW})) == 1 then
    emit(swarm, branch_event('branch.promoted', id, subtask, {by = by}))
    keep(swarm, key)
  end
end

local function has_won(subtask, id)
  local race = redis.call('HGET', BASE .. 'races', subtask)
  return race and cjson.decode(race).winner == id or false
end

-- Terminal state, slot freed and given on, done set, mark of the stage: all or nothing. caller is remembered with the
-- answer, so that the same call repeated gets the same answer. Returns whether to finish the stage, and whom to publish.
local function end_branch(swarm, branch, exit, outcome, token, caller)
  redis.call('HSET', branch.key, 'state', 'done', 'outcome', outcome, 'finished_at', stamp(NOW), 'lease_until', '0',
    'token', token)
  unreserve(branch)
  -- One of several says nothing of its subtask yet.
  if branch.of_many ~= '1' then redis.call('HSET', BASE .. 'subtasks', branch.subtask, STATUS[exit] or 'failed') end
  redis.call('SREM', BASE .. 'slots', branch.id)
  redis.call('SREM', BASE .. 'running', branch.id)
  if branch.state == 'waiting' then redis.call('LREM', BASE .. 'waiting', 1, branch.id) end
  local done = BASE .. 'stage:' .. branch.stage .. ':done'
  redis.call('SADD', done, branch.id)
  for _, key in ipairs({done, BASE .. 'slots', BASE .. 'counters'}) do keep(swarm, key) end
  local publish = table.concat(fill_slots(swarm), ' ')
  local advance = mark_stage(branch.stage)
  redis.call('HSET', branch.key, 'ended_by', caller, 'advance', advance, 'publish', publish, 'was', branch.state)
  return advance, publish
end

-- Ends a branch that nobody holds as cancelled. The token grows, so that a holder who was only paused is refused.
local function end_cancelled(swarm, branch, reason, caller)
  local f = redis.call('HMGET', branch.key, 'steps', 'tool_calls', 'input_tokens', 'output_tokens', 'cached_tokens',
    'cache_write_tokens', 'checkpoint', 'cost_nano_usd', 'unpriced_calls')
  local function number(i) return tonumber(f[i] or 0) end
  local started = tonumber(branch.started_at)
  local outcome = {
    exit = 'cancelled', error = reason, steps = number(1), tool_calls = number(2),
    usage = {input_tokens = number(3), output_tokens = number(4), cached_tokens = number(5), cache_write_tokens = number(6)},
    duration_seconds = started > 0 and NOW - started or 0, checkpoint = f[7] or nil,
    cost_usd = number(9) == 0 and number(8) / 1e9 or nil,
  }
  redis.call('HSETNX', branch.key, 'cancel_reason', reason)
  emit(swarm, branch_event('branch.finished', branch.id, branch.subtask, {exit = 'cancelled', steps = number(1), error = reason}))
  return end_branch(swarm, branch, 'cancelled', cjson.encode(outcome), tonumber(branch.token) + 1, caller)
end
